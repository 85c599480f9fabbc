package main

import (
	"encoding/json"
	"io"
	"maps"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// shared is the application on a copy of the database of whatever Rails folder
// the tests run with, under the master keys of its manifest.
type shared struct {
	*app
	manifest vectors.RailsManifest
}

func openShared(t *testing.T) shared {
	t.Helper()
	var s shared
	vectors.LoadRails(t, "manifest.json", &s.manifest)
	db, err := sqlx.Open("sqlite", vectors.RailsDatabase(t, "rails.sqlite3"))
	ok(t, err)
	t.Cleanup(func() { db.Close() })
	var keys masterKeys
	keys.lockbox, err = lockbox.ParseMasterKey(s.manifest.LockboxMasterKey)
	ok(t, err)
	keys.index, err = blindindex.ParseMasterKey(s.manifest.BlindIndexMasterKey)
	ok(t, err)
	keys.indexV2, err = blindindex.ParseMasterKey(s.manifest.BlindIndexV2Key)
	ok(t, err)
	native, err := local.Create(t.TempDir() + "/keys.txt")
	ok(t, err)
	s.app, err = newApp(db, native, keys, io.Discard)
	ok(t, err)
	return s
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// records is a table through the adapter.
type records[R any] struct {
	t  *testing.T
	db *sqlx.DB
	m  *field.Model[R]
}

func (r records[R]) all() []R {
	r.t.Helper()
	rows, err := load(r.t.Context(), r.db, r.m, "")
	ok(r.t, err)
	return rows
}

// raw is a row as it lies in the table: the type of each column, and its text or
// the hexadecimal of its bytes.
func (r records[R]) raw(id int64) map[string]any {
	r.t.Helper()
	columns := make(map[string]any)
	for _, name := range r.m.Adapter().Columns() {
		var text *string
		ok(r.t, r.db.Get(&text, "SELECT typeof("+name+") || ' ' || CASE typeof("+name+") WHEN 'blob' THEN hex("+name+") ELSE "+name+" END FROM "+r.m.Table()+" WHERE id = ?", id))
		columns[name] = nil
		if text != nil {
			columns[name] = *text
		}
	}
	return columns
}

func idOf(row any) int64 { return reflect.ValueOf(row).Elem().FieldByName("ID").Int() }

// check compares the rows with the manifest, after what the test changed.
func (r records[R]) check(s shared, changed map[int64]map[string]any) (checked int) {
	r.t.Helper()
	byID := make(map[int64]reflect.Value)
	for _, row := range r.all() {
		byID[idOf(&row)] = reflect.ValueOf(row)
	}
	for _, row := range s.manifest.Rows {
		if row.Table != r.m.Table() {
			continue
		}
		v, found := byID[row.ID]
		if !found {
			r.t.Errorf("%s %d is missing", row.Table, row.ID)
			continue
		}
		for attribute, want := range row.Values {
			name := vectors.RailsField(attribute)
			if name == "" {
				continue
			}
			got, err := vectors.RailsPlain(v.FieldByName(name))
			if err == nil {
				if set, isChanged := changed[row.ID][name]; !isChanged {
					err = want.Check(got)
				} else if !reflect.DeepEqual(got, set) {
					r.t.Errorf("%s %d %s = %v, want %v", row.Table, row.ID, attribute, got, set)
				}
			}
			if err != nil {
				r.t.Errorf("%s %d %s: %v", row.Table, row.ID, attribute, err)
			}
		}
		checked++
	}
	return checked
}

// Ruby's forms of a column: its typeof in SQLite, and its text.
var (
	strictKey    = regexp.MustCompile(`^text v[0-9]+:(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$`)
	strictBase64 = regexp.MustCompile(`^text (?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$|^text [A-Za-z0-9+/]{2,3}={1,2}$`)
	linesOf60    = regexp.MustCompile(`^text _?(?:[A-Za-z0-9+/]{60}\n)*(?:[A-Za-z0-9+/]{1,59}={0,2}\n)?$`)
	rawBytes     = regexp.MustCompile(`^blob [0-9A-F]{56,}$`) // nonce 12 and tag 16
)

// wantRuby checks what the adapter wrote into columns against Ruby's forms, and
// that it left every other column as it was.
func (r records[R]) wantRuby(id int64, before map[string]any, written ...string) {
	r.t.Helper()
	for name, now := range r.raw(id) {
		if before != nil && !reflect.DeepEqual(now, before[name]) && !contains(written, name) {
			r.t.Errorf("%s %d: column %s changed", r.m.Table(), id, name)
		}
		if now == nil || before != nil && !contains(written, name) {
			continue
		}
		shape := strictBase64
		switch {
		case strings.HasPrefix(name, "encrypted_kms_key"):
			shape = strictKey
		case strings.HasPrefix(name, "encrypted_"):
			shape = linesOf60
		case name == "photo_ciphertext":
			shape = rawBytes
		}
		if !shape.MatchString(now.(string)) {
			r.t.Errorf("%s %d: column %s is not in Ruby's form: %q", r.m.Table(), id, name, now)
		}
	}
}

func contains(list []string, name string) bool {
	return strings.Contains(" "+strings.Join(list, " ")+" ", " "+name+" ")
}

// One database, two applications: all rows are read, a field of each is updated,
// and new rows are inserted, through package sqlx.
func TestRailsThroughSqlx(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	users := records[User]{t, s.db, s.users}
	accounts := records[Account]{t, s.db, s.accounts}
	people := records[Person]{t, s.db, s.people}
	notes := records[LegacyNote]{t, s.db, s.notes}
	n := users.check(s, nil) + accounts.check(s, nil) + people.check(s, nil) + notes.check(s, nil)
	if n != len(s.manifest.Rows) {
		t.Errorf("%d of %d rows were read", n, len(s.manifest.Rows))
	}
	vectors.Ran(t, "manifest.json", n)

	changedUsers := update(users, func(i int, u *User) (string, any, []string) {
		// Each kind of column in turn; e-mail and phone have indexes.
		now := time.Date(2030, 1, 2, 3, 4, 5, 678901000, time.UTC)
		text := "Zoë <&> " + time.Duration(i).String()
		switch i % 8 {
		case 0:
			u.Email.Set(&text)
			return "Email", text, []string{"email_ciphertext", "email_bidx", "email_ci_bidx"}
		case 1:
			u.Phone.Set(&text)
			return "Phone", text, []string{"phone_ciphertext", "encrypted_kms_key_phone", "phone_bidx", "phone_last4_bidx"}
		case 2:
			u.SSN.Set(&text)
			return "SSN", text, []string{"encrypted_ssn", "encrypted_ssn_iv"}
		case 3:
			long := strings.Repeat(text, 9) // several lines of base64
			u.PIN.Set(&long)
			return "PIN", long, []string{"encrypted_pin", "encrypted_pin_iv", "encrypted_pin_salt"}
		case 4:
			u.SignedAt.Set(&now)
			return "SignedAt", now, []string{"signed_at_ciphertext"}
		case 5:
			u.Photo.Set([]byte("\xff\xd8\x00"))
			return "Photo", []byte("\xff\xd8\x00"), []string{"photo_ciphertext"}
		case 6:
			u.Status.Set(&text) // padded
			return "Status", text, []string{"status_ciphertext"}
		}
		u.Note.Set(&text) // under the master key, bound to the name
		return "Note", text, []string{"note_ciphertext"}
	})
	changedAccounts := update(accounts, func(i int, a *Account) (string, any, []string) {
		iban := "DE99 " + a.Tenant
		a.IBAN.Set(&iban)
		return "IBAN", iban, []string{"iban_ciphertext", "iban_bidx", "iban_bidx_v2"}
	})
	changedPeople := update(people, func(i int, p *Person) (string, any, []string) {
		p.Email.Set(new("zoë@example.org"))
		return "Email", "zoë@example.org", []string{"email_ciphertext"}
	})
	changedNotes := update(notes, func(i int, n *LegacyNote) (string, any, []string) {
		n.Body.Set(new("written by Go"))
		return "Body", "written by Go", []string{"body_ciphertext"}
	})
	users.check(s, changedUsers)
	accounts.check(s, changedAccounts)
	people.check(s, changedPeople)
	notes.check(s, changedNotes)

	insertRows(s, users, accounts, people)
}

// update changes one field of every row and checks the columns.
func update[R any](r records[R], change func(i int, row *R) (name string, value any, columns []string)) map[int64]map[string]any {
	r.t.Helper()
	changed := make(map[int64]map[string]any)
	rows := r.all()
	for i := range rows {
		id := idOf(&rows[i])
		before := r.raw(id)
		name, value, columns := change(i, &rows[i])
		if before["encrypted_kms_key"] == nil {
			columns = append(columns, "encrypted_kms_key") // its first data key
		}
		ok(r.t, kmssqlx.Update(r.t.Context(), r.db, r.m, &rows[i]))
		r.wantRuby(id, before, columns...)
		if after := r.raw(id); maps.Equal(before, after) {
			r.t.Errorf("%s %d: the update wrote nothing", r.m.Table(), id)
		}
		changed[id] = map[string]any{name: value}
	}
	return changed
}

// insertRows adds rows in Ruby's form, which each index finds.
func insertRows(s shared, users records[User], accounts records[Account], people records[Person]) {
	t := users.t
	t.Helper()
	now := time.Now().UTC().Format("2006-01-02 15:04:05.000000")
	full := User{
		Name: new("Joan"), Email: field.New(new("Joan@Example.org")), Phone: field.New(new("+1 555 0917")),
		Birthday: field.New(new(time.Date(1917, 2, 3, 0, 0, 0, 0, time.UTC))), SignedAt: field.New(new(time.Now().UTC())),
		OpensAt: field.New(new(time.Date(2000, 1, 1, 9, 30, 0, 0, time.UTC))), Active: field.New(new(true)), Visits: field.New(new(int64(-7))),
		Latitude: field.New(new(48.137)), Balance: field.New(new(lockbox.Decimal("12.50"))), Profile: field.New[any](map[string]any{"a": "<&>"}),
		Settings: field.New(map[string]any{"theme": "yes"}), Tags: field.New([]any{"a", "no"}), Status: field.New(new("")),
		Token: field.New(new("t")), Badge: field.New(new("b")), Note: field.New(new("n")), Photo: field.New([]byte{1}),
		SSN: field.New(new("1")), PIN: field.New(new("2")), CreatedAt: now, UpdatedAt: now,
	}
	empty := User{Email: field.New(new("")), Empty: field.New(new("")), SSN: field.New(new("")), CreatedAt: now, UpdatedAt: now}
	ok(t, kmssqlx.Insert(t.Context(), s.db, s.users, &full, &empty))
	users.wantRuby(full.ID, nil)
	for column, want := range map[string]any{
		// As Ruby stores the empty text, and what has nothing to encrypt.
		"email_ciphertext": "text ", "empty_ciphertext": "text ", "encrypted_ssn": "text ", "phone_ciphertext": nil, "encrypted_pin": nil, "photo_ciphertext": nil,
		"encrypted_kms_key_phone": nil, "phone_bidx": nil,
	} {
		if got := users.raw(empty.ID)[column]; got != want {
			t.Errorf("column %s of an empty user = %q, want %q", column, got, want)
		}
	}
	account := Account{UUID: "u", Tenant: "<t>", Secret: field.New(new("s")), IBAN: field.New(new("DE01"))}
	ok(t, kmssqlx.Insert(t.Context(), s.db, s.accounts, &account))
	accounts.wantRuby(account.ID, nil)
	joan := Person{Type: new("Employee"), Email: field.New(new("joan@example.org"))}
	ok(t, kmssqlx.Insert(t.Context(), s.db, s.people, &joan))
	people.wantRuby(joan.ID, nil)

	for column, value := range map[string]string{
		"email_bidx": "Joan@Example.org", "email_ci_bidx": "JOAN@EXAMPLE.ORG", "phone_bidx": "+1 555 0917", "phone_last4_bidx": "0917",
	} {
		users.wantFound(full.ID, column, value)
	}
	accounts.wantFound(account.ID, "iban_bidx", "DE01")
	accounts.wantFound(account.ID, "iban_bidx_v2", "DE01")
}

func (r records[R]) wantFound(id int64, column string, value any) {
	r.t.Helper()
	var found []R
	var err error
	if lookup := r.m.Lookup(column, value); lookup.Null {
		found, err = load(r.t.Context(), r.db, r.m, "WHERE "+column+" IS NULL")
	} else {
		err = kmssqlx.Select(r.t.Context(), r.db, r.m, &found, "SELECT * FROM "+r.m.Table()+" WHERE "+column+" IN (?)", lookup)
	}
	ok(r.t, err)
	for i := range found {
		if idOf(&found[i]) == id {
			return
		}
	}
	r.t.Errorf("%s %d is not found by %s", r.m.Table(), id, column)
}

// Every look-up of the manifest, through package sqlx, which opens and compares
// what the index finds.
func TestRailsFindThroughSqlx(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	n := 0
	for _, row := range s.manifest.Rows {
		for index, value := range row.Find {
			var text *string
			if value.Type != "nil" {
				ok(t, json.Unmarshal(value.V, &text))
			}
			var sought any
			if text != nil {
				sought = *text
			}
			switch n++; row.Table {
			case "users":
				records[User]{t, s.db, s.users}.wantFound(row.ID, index+"_bidx", sought)
			case "accounts":
				records[Account]{t, s.db, s.accounts}.wantFound(row.ID, index+"_bidx", sought)
				if index == "iban" {
					records[Account]{t, s.db, s.accounts}.wantFound(row.ID, "iban_bidx_v2", sought)
				}
			default:
				t.Errorf("a look-up in %s", row.Table)
			}
		}
	}
	vectors.Ran(t, "manifest.json", n)
}
