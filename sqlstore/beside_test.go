package sqlstore_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/rubyprocess"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func TestRubyProcessBesideSQLite(t *testing.T)   { testBesideRails(t, sqlite, "sqlite3") }
func TestRubyProcessBesidePostgres(t *testing.T) { testBesideRails(t, postgres, "pg") }

// memberWithNote has a column that only Go writes.
type memberWithNote struct {
	ID       int64             `db:"id"`
	Key      field.Key         `db:"encrypted_kms_key"`
	Email    field.Of[*string] `db:"email_ciphertext" kms:"lockbox"`
	SSN      field.Of[*string] `db:"encrypted_ssn" kms:"attr_encrypted"`
	SSNIV    field.Part        `db:"encrypted_ssn_iv"`
	Note     field.Of[*string] `db:"note_ciphertext" kms:"lockbox"`
	PhoneKey field.Key         `db:"encrypted_kms_key_phone" kms:"name=phone"`
	Phone    field.Of[*string] `db:"phone_ciphertext" kms:"lockbox,key=phone"`
}

// besideRails is what Ruby prints.
type besideRails struct {
	Operations, Created int
	Wrote               map[int64]map[string]string
}

// A Rails application writes blank values, first keys and keys of two versions, while Go
// gives every row its keys, writes another column and moves the keys. Nothing is lost.
func testBesideRails(t *testing.T, d database, driver string) {
	t.Parallel()
	gems := []string{"active_record", "lockbox", "attr_encrypted", driver}
	rubyprocess.Run(t, gems, nil, "-e", "") // skips without them
	dir := t.TempDir()
	dsn := d.dsn(t)
	db := d.connect(t, dsn)
	url := strings.Replace(dsn, "postgres://", "postgresql://", 1)
	if d.dialect == field.SQLite {
		url, _, _ = strings.Cut(strings.TrimPrefix(dsn, "file:"), "?")
	}
	ruby := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}
	modelAt := func(current int) *field.Model[memberWithNote] {
		b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: ruby, 2: ruby}}.Box()
		must(t, err)
		m, err := field.NewModel[memberWithNote](b, field.Config{Table: "members", Name: "Member", NoFirstKeys: true})
		must(t, err)
		return m
	}
	m := modelAt(2)
	create(t, d, db, m, "id bigint PRIMARY KEY")
	const members = 40
	for id := 1; id <= members; id++ {
		_, err := db.Exec(fmt.Sprintf("INSERT INTO members (id, email_ciphertext, phone_ciphertext) VALUES (%d, %s, NULL)", id, []string{"NULL", "''"}[id%2]))
		must(t, err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	out := make(chan []byte, 1)
	go func() {
		defer close(out)
		out <- rubyprocess.Run(t, gems, nil, "testdata/beside.rb", url, path("keyed"), path("seen"), path("stop"))
	}()
	stop := func() { _ = os.WriteFile(path("stop"), nil, 0o600) }
	defer stop()

	rotate := func(kind rotation.Kind) rotation.Result {
		t.Helper()
		r := rotator(t, d, db, m.Adapter().Box(), m, rotation.Options{Kind: kind, BatchSize: 10, Workers: 2})
		result, err := r.Run(t.Context())
		if failures, _ := r.Failures(t.Context(), 3); err != nil || len(failures) > 0 {
			t.Errorf("%s beside Rails = %+v, %v, %v", kind, result, err, failures)
		}
		return result
	}
	keyed := rotate(rotation.FirstKey)
	must(t, os.WriteFile(path("keyed"), nil, 0o600))
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) { // Rails holds no row from before
		if _, err := os.Stat(path("seen")); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the Ruby process does nothing")
		}
	}

	notes := make(map[int64]string)
	var conflicts, rewrapped int64
	for n := range 300 {
		id := int64(n%members + 1)
		row := new(memberWithNote)
		must(t, kmssqlx.Get(t.Context(), db, m, row, db.Rebind("SELECT * FROM members WHERE id = ?"), id))
		note := fmt.Sprintf("note %d", n)
		row.Note.Set(&note)
		switch err := kmssqlx.Update(t.Context(), db, m, row); {
		case errors.Is(err, kmsencrypted.ErrConflict):
			conflicts++
		case err != nil:
			t.Errorf("Update(%d) = %v", id, err)
		default:
			notes[id] = note
		}
		if n%50 == 0 {
			m = modelAt(1 + n/50%2)
			rewrapped += rotate(rotation.Rewrap).Written
		}
	}
	stop()
	var rails besideRails
	must(t, json.Unmarshal(<-out, &rails))
	m = modelAt(2)
	rewrapped += rotate(rotation.FirstKey).Written + rotate(rotation.Rewrap).Written
	checkBeside(t, db, m, rails, notes)
	t.Logf("Rails: %d operations, %d new rows. Go: %d rows given keys, %d notes, %d conflicts, %d keys moved",
		rails.Operations, rails.Created, keyed.Written, len(notes), conflicts, rewrapped)
	if rails.Operations < 50 || rails.Created == 0 || len(notes) < members || rewrapped < members {
		t.Error("too little ran")
	}
}

// checkBeside compares every row with what was written last.
func checkBeside(t *testing.T, db *sqlx.DB, m *field.Model[memberWithNote], rails besideRails, notes map[int64]string) {
	t.Helper()
	compared := 0
	for _, row := range load(t, db, m) {
		want := map[string]string{}
		for name, value := range rails.Wrote[row.ID] {
			want[name] = value
		}
		got := map[string]*string{"email": row.Email.Must(), "phone": row.Phone.Must(), "ssn": row.SSN.Must(), "note": row.Note.Must()}
		if note, ok := notes[row.ID]; ok {
			want["note"] = note
		}
		for name, value := range want {
			if got[name] == nil || *got[name] != value {
				t.Errorf("member %d: %s is not what was written last, %q", row.ID, name, value)
			}
			compared++
		}
	}
	if compared == 0 {
		t.Error("nothing was compared")
	}
}
