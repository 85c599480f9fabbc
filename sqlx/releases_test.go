package kmssqlx_test

import (
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// wider is what the next release makes of narrow.
type narrow struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

type wider struct {
	ID    int64             `db:"id"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Email field.Of[string]  `db:"email_ciphertext"`
	Phone field.Of[*string] `db:"phone_ciphertext"`
}

// releases are two releases over one table, which say of themselves that they
// know every column, and one of each that may only encrypt.
type releases struct {
	*env
	kms              *kmstest.Service
	old, oldEncrypts *field.Model[narrow]
	new, newEncrypts *field.Model[wider]
}

func (e *env) releases(t *testing.T) releases {
	t.Helper()
	r := releases{env: e, kms: kmstest.NewService(kmstest.Memory())}
	box := func(encryptOnly bool) *kmsencrypted.Box {
		b, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: r.kms.Provider(), EncryptOnly: encryptOnly}}}.Box()
		must(t, err)
		return b
	}
	complete := field.Config{Table: e.table, Complete: true}
	r.old, r.oldEncrypts = must1(field.NewModel[narrow](box(false), complete))(t), must1(field.NewModel[narrow](box(true), complete))(t)
	r.new, r.newEncrypts = must1(field.NewModel[wider](box(false), complete))(t), must1(field.NewModel[wider](box(true), complete))(t)
	createTable(t, e, r.new, "id "+e.id)
	return r
}

func must1[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T { t.Helper(); must(t, err); return v }
}

func (r releases) insert(t *testing.T, phone *string) int64 {
	t.Helper()
	w := wider{Email: field.New(email(0)), Phone: field.New(phone)}
	must(t, kmssqlx.Insert(t.Context(), r.db, r.new, &w))
	return w.ID
}

func (r releases) get(t *testing.T, id int64) (w wider) {
	t.Helper()
	must(t, kmssqlx.Get(t.Context(), r.db, r.new, &w, "SELECT * FROM "+r.table+" WHERE id = ?", id))
	return w
}

// closed reads a record as a server does that may not open it.
func (r releases) closed(t *testing.T, into any, columns string, id int64) {
	t.Helper()
	must(t, r.db.Get(into, r.db.Rebind("SELECT "+columns+" FROM "+r.table+" WHERE id = ?"), id))
}

const narrowColumns = "id, encrypted_kms_key, email_ciphertext"

// While two releases run, the old one sets every field that it knows.
func keyKeptByAnOldRelease(t *testing.T, e *env) {
	r := e.releases(t)
	id := r.insert(t, new("phone@"+secret))
	var c narrow
	must(t, kmssqlx.Get(t.Context(), e.db, r.old, &c, "SELECT "+narrowColumns+" FROM "+e.table+" WHERE id = ?", id))
	c.Email.Set(email(1))
	must(t, kmssqlx.Update(t.Context(), e.db, r.old, &c))
	c = narrow{}
	r.closed(t, &c, narrowColumns, id)
	c.Email.Set(email(2))
	must(t, kmssqlx.Update(t.Context(), e.db, r.old, &c))
	if w := r.get(t, id); w.Email.Must() != email(2) || *w.Phone.Must() != "phone@"+secret {
		t.Error("an old release lost a column of the new one")
	}
}

// A server that may only encrypt replaces a record if it sets every column.
func encryptOnlyReplaces(t *testing.T, e *env) {
	r := e.releases(t)
	full, empty := r.insert(t, new("phone@"+secret)), r.insert(t, nil)
	for _, id := range []int64{full, empty} {
		var c narrow
		r.closed(t, &c, narrowColumns, id)
		c.Email.Set(email(1))
		var err error
		_, unwraps := calls(r.kms, func() { err = kmssqlx.Update(t.Context(), e.db, r.oldEncrypts, &c) })
		if unwraps != 0 {
			t.Errorf("%d calls to decrypt", unwraps)
		}
		if id == full {
			wantError(t, "an update that would lose a column", err, kmsencrypted.ErrNeedsDecrypt)
			continue
		}
		must(t, err)
	}
	if w := r.get(t, full); w.Email.Must() != email(0) || *w.Phone.Must() != "phone@"+secret {
		t.Error("a refused update changed the row")
	}
	if w := r.get(t, empty); w.Email.Must() != email(1) {
		t.Error("an update without permission to decrypt was lost")
	}
	var w wider
	r.closed(t, &w, "*", full)
	w.Email.Set(email(3))
	wantError(t, "an update of some fields", kmssqlx.Update(t.Context(), e.db, r.newEncrypts, &w), kmsencrypted.ErrNeedsDecrypt)
	w.Phone.SetNull()
	// Somebody who may decrypt sets a column between reading and writing.
	other := r.get(t, full)
	other.Phone.Set(new("fax@" + secret))
	must(t, kmssqlx.Update(t.Context(), e.db, r.new, &other))
	must(t, kmssqlx.Update(t.Context(), e.db, r.newEncrypts, &w))
	if got := r.get(t, full); got.Email.Must() != email(3) || !got.Phone.IsNull() {
		t.Error("an update of every field was lost")
	}
}

// A rekey with a model that lacks a column of the table would lose it.
func rekeyKnowsEveryColumn(t *testing.T, e *env) {
	r := e.releases(t)
	id := r.insert(t, new("phone@"+secret))
	var c narrow
	must(t, kmssqlx.Get(t.Context(), e.db, r.old, &c, "SELECT "+narrowColumns+" FROM "+e.table+" WHERE id = ?", id))
	err := kmssqlx.Rekey(t.Context(), e.db, r.old, &c)
	wantError(t, "Rekey", err, kmsencrypted.ErrConfig)
	if err != nil && !strings.Contains(err.Error(), "the table has columns that the model does not, and that would become unreadable: phone_ciphertext") {
		t.Errorf("Rekey: %v", err)
	}
	w := r.get(t, id)
	if w.Email.Must() != email(0) || *w.Phone.Must() != "phone@"+secret {
		t.Error("a refused rekey changed the row")
	}
	must(t, kmssqlx.Rekey(t.Context(), e.db, r.new, &w))
	// A column that another release adds between reading and writing.
	e.db.MustExec("ALTER TABLE " + e.table + " ADD COLUMN notes_ciphertext text")
	wantError(t, "Rekey beside a new column", kmssqlx.Rekey(t.Context(), e.db, r.new, &w), kmsencrypted.ErrConfig)
}
