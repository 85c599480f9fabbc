package field_test

import (
	"database/sql/driver"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// railsUser has columns of Rails' encrypts beside one under a data key.
type railsUser struct {
	ID    int64             `db:"id"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Name  field.Of[string]  `db:"name_ciphertext"`
	Email field.Of[string]  `db:"email" kms:"activerecord,deterministic"`
	Note  field.Of[*string] `db:"note" kms:"activerecord"`
	Age   field.Of[*int]    `db:"age" kms:"activerecord,deterministic"`
}

func railsUsers(t *testing.T, box *kmsencrypted.Box, plaintext activerecord.Plaintext, primaryKeys ...string) *field.Model[railsUser] {
	t.Helper()
	return newModel[railsUser](t, box, field.Config{Table: "users", ActiveRecord: railsKeys(t, plaintext, primaryKeys...)})
}

func railsKeys(t *testing.T, plaintext activerecord.Plaintext, primaryKeys ...string) *activerecord.Encryption {
	t.Helper()
	e, err := activerecord.New(activerecord.Config{
		PrimaryKeys:      activerecord.Passwords(primaryKeys...),
		DeterministicKey: activerecord.Password("deterministic"),
		Salt:             "salt",
		Plaintext:        plaintext,
	})
	must(t, err)
	return e
}

// readAs returns a record as another program reads it.
func readAs(t *testing.T, from *railsUser) (r railsUser) {
	t.Helper()
	r.ID = from.ID
	must(t, r.Key.Scan(column(t, from.Key)))
	must(t, r.Name.Scan(column(t, from.Name)))
	must(t, r.Email.Scan(column(t, from.Email)))
	must(t, r.Note.Scan(column(t, from.Note)))
	must(t, r.Age.Scan(column(t, from.Age)))
	return r
}

// A rekey leaves the columns of Rails alone, and Reindex encrypts those again that are
// under an older key, if nobody has written them since.
func TestActiveRecordRotation(t *testing.T) {
	t.Parallel()
	box := nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()})
	before, after := railsUsers(t, box, 0, "a"), railsUsers(t, box, 0, "a", "b")
	ada := railsUser{ID: 1, Name: field.New("Ada"), Email: field.New("ada@example.org"), Note: field.New(new("secret"))}
	must(t, before.Seal(t.Context(), &ada))
	if got := column(t, ada.Note).(string); !strings.HasPrefix(got, `{"p":"`) || strings.Contains(got, "secret") {
		t.Errorf("note = %s, want a message", got)
	}
	r := readAs(t, &ada)
	must(t, before.Rekey(t.Context(), &r))
	wantWrite(t, before, &r, "rekey", "[name_ciphertext encrypted_kms_key]", "[name_ciphertext encrypted_kms_key]")

	r = readAs(t, &ada)
	must(t, after.Open(t.Context(), &r))
	wantError(t, "CheckDerived under the old key", after.Adapter().CheckDerived(t.Context(), &r), kmsencrypted.ErrStaleIndex)
	must(t, after.Reindex(t.Context(), &r))
	wantWrite(t, after, &r, "reindex", "[note]", "[note]")
	must(t, after.Adapter().CheckDerived(t.Context(), &r))
	after.Adapter().Saved(&r)
	wantWrite(t, after, &r, "afterwards", "[]", "[]")
	r = readAs(t, &r)
	must(t, after.Open(t.Context(), &r))
	if *r.Note.Must() != "secret" || r.Email.Must() != "ada@example.org" {
		t.Errorf("opened %q and %q", *r.Note.Must(), r.Email.Must())
	}
	r = readAs(t, &r)
	wantError(t, "Reindex of what is not opened", after.Reindex(t.Context(), &r), kmsencrypted.ErrNotOpened)
}

func TestActiveRecordLookup(t *testing.T) {
	t.Parallel()
	box := nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()})
	m := railsUsers(t, box, activerecord.PlaintextRead, "a")
	age := 36
	ada := railsUser{ID: 1, Email: field.New(strings.Repeat("ada", 100)), Age: field.New(&age)}
	must(t, m.Seal(t.Context(), &ada))
	for _, c := range []struct {
		name  string
		value any
		match bool
	}{
		{"Email", strings.Repeat("ada", 100), true},
		{"email", "bob", false},
		{"Age", 36, true}, {"Age", int8(36), true}, {"Age", &age, true}, {"Age", uint64(37), false},
		{"Age", nil, false}, {"Age", (*int)(nil), false},
	} {
		l := m.Lookup(c.name, c.value)
		must(t, l.Err())
		if match, err := l.Matches(&ada); err != nil || match != c.match {
			t.Errorf("Lookup(%s, %v) matches: %t, %v; want %t", c.name, c.value, match, err, c.match)
		}
		stored := column(t, ada.Email)
		if c.name == "Age" {
			stored = column(t, ada.Age)
		}
		found := false
		for _, arg := range l.Args() {
			value, err := arg.(driver.Valuer).Value()
			must(t, err)
			found = found || value == stored
		}
		if found != c.match {
			t.Errorf("Lookup(%s, %v) = %v, and the column is %v", c.name, c.value, l.Columns, stored)
		}
	}
	for name, value := range map[string]any{"Note": "x", "Age": "36", "Email": 1, "Nothing": "x"} {
		wantError(t, "a look-up in "+name, m.Lookup(name, value).Err(), kmsencrypted.ErrConfig)
	}
}

// A column that holds plaintext is read where that is allowed, and the same text may be
// encrypted.
func TestActiveRecordPlaintext(t *testing.T) {
	t.Parallel()
	box := nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()})
	text := strings.Repeat("ada@example.org ", 10)
	read := func() (r railsUser) {
		r.ID = 1
		must(t, r.Key.Scan(nil))
		must(t, r.Email.Scan(text))
		return r
	}
	r := read()
	wantError(t, "plaintext", railsUsers(t, box, 0, "a").Open(t.Context(), &r), kmsencrypted.ErrNotCiphertext)
	m := railsUsers(t, box, activerecord.PlaintextRead, "a")
	r = read()
	must(t, m.Open(t.Context(), &r))
	r.Email.Set(r.Email.Must())
	must(t, m.Seal(t.Context(), &r))
	if got := column(t, r.Email).(string); !strings.HasPrefix(got, `{"p":"`) {
		t.Errorf("email = %s, want a message", got)
	}
}

// From a column of Rails to one under a data key, while Rails writes the old one.
func TestActiveRecordMigration(t *testing.T) {
	t.Parallel()
	type moving struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Old   field.Of[string] `db:"email" kms:"activerecord,deterministic"`
		Email field.Of[string] `db:"email_ciphertext" kms:"migrating=Old"`
	}
	box := nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()})
	rails := railsUsers(t, box, 0, "a")
	m := newModel[moving](t, box, field.Config{Table: "users", ActiveRecord: railsKeys(t, 0, "a")})
	byRails := railsUser{ID: 1, Email: field.New("ada@example.org")}
	must(t, rails.Seal(t.Context(), &byRails))

	r := moving{ID: 1}
	must(t, r.Key.Scan(nil))
	must(t, r.Old.Scan(column(t, byRails.Email)))
	must(t, r.Email.Scan(nil))
	must(t, m.Open(t.Context(), &r))
	if r.Email.Must() != "ada@example.org" || m.Migrated(&r) {
		t.Errorf("the new field is %q, migrated %t", r.Email.Must(), m.Migrated(&r))
	}
	must(t, m.Seal(t.Context(), &r))
	// Only if Rails has not written the old column since.
	wantWrite(t, m, &r, "filling", "[email_ciphertext encrypted_kms_key]", "[email_ciphertext=NULL email encrypted_kms_key=NULL]")
	m.Adapter().Saved(&r)
	if !m.Migrated(&r) {
		t.Error("not migrated after filling")
	}
	r.Email.Set("countess@example.org")
	must(t, m.Seal(t.Context(), &r))
	wantWrite(t, m, &r, "writing both", "[email_ciphertext email]", "[encrypted_kms_key]")
	var read railsUser
	read.ID = 1
	must(t, read.Email.Scan(column(t, r.Old)))
	must(t, rails.Open(t.Context(), &read))
	if read.Email.Must() != "countess@example.org" {
		t.Errorf("Rails reads %q", read.Email.Must())
	}
}

func TestActiveRecordTags(t *testing.T) {
	t.Parallel()
	box := nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()})
	type both struct {
		ID    int64            `db:"id"`
		Email field.Of[string] `db:"email" kms:"activerecord,lockbox"`
	}
	type padded struct {
		ID    int64            `db:"id"`
		Email field.Of[string] `db:"email" kms:"activerecord,padding=16"`
	}
	type unkeyed struct {
		ID    int64            `db:"id"`
		Email field.Of[string] `db:"email" kms:"activerecord"`
	}
	type other struct {
		ID    int64              `db:"id"`
		Email field.Of[[]string] `db:"original_email" kms:"activerecord"`
		Lower field.Of[string]   `db:"email" kms:"activerecord,ignore_case=Email"`
	}
	config := field.Config{Table: "users", ActiveRecord: railsKeys(t, 0, "a")}
	_, err := field.NewModel[both](box, config)
	wantError(t, "two forms", err, kmsencrypted.ErrConfig)
	_, err = field.NewModel[padded](box, config)
	wantError(t, "padding", err, kmsencrypted.ErrConfig)
	_, err = field.NewModel[unkeyed](box, field.Config{Table: "users"})
	wantError(t, "no keys", err, kmsencrypted.ErrConfig)
	_, err = field.NewModel[other](box, config)
	wantError(t, "another type", err, kmsencrypted.ErrConfig)

	config.ActiveRecordSchemes = map[string]activerecord.Scheme{"emial": {}}
	_, err = field.NewModel[railsUser](box, config)
	wantError(t, "a scheme of no column", err, kmsencrypted.ErrConfig)
	config.ActiveRecordSchemes = nil

	type lower struct {
		ID    int64            `db:"id"`
		Email field.Of[string] `db:"original_email" kms:"activerecord"`
		Lower field.Of[string] `db:"email" kms:"activerecord,ignore_case=Email"`
	}
	m := newModel[lower](t, box, config)
	r := lower{ID: 1, Email: field.New("Ada@Example.org")}
	must(t, m.Seal(t.Context(), &r))
	l := m.Lookup("Lower", "ADA@example.ORG")
	must(t, l.Err())
	if got := column(t, l.Columns[0]); got != column(t, r.Lower) {
		t.Errorf("Lookup = %v, want %v", got, column(t, r.Lower))
	}
	r.Lower.Set("x")
	wantError(t, "setting the lower case", m.Seal(t.Context(), &r), kmsencrypted.ErrConfig)
}
