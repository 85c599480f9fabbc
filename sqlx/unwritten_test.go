package kmssqlx_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// oldCase belongs to a tenant. The release after it knows one column more.
type oldCase struct {
	ID     int64            `db:"id"`
	Tenant string           `db:"tenant_id" kms:"context"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Email  field.Of[string] `db:"email_ciphertext"`
	Phone  field.Of[string] `db:"phone_ciphertext"`
}

type newCase struct {
	ID     int64             `db:"id"`
	Tenant string            `db:"tenant_id" kms:"context"`
	Key    field.Key         `db:"encrypted_kms_key"`
	Email  field.Of[string]  `db:"email_ciphertext"`
	Phone  field.Of[string]  `db:"phone_ciphertext"`
	Note   field.Of[*string] `db:"note_ciphertext"`
}

// cases is a table of both releases, and a process of the old one that may only
// encrypt.
type cases struct {
	*env
	old, oldEncrypts *field.Model[oldCase]
	new              *field.Model[newCase]
}

func (e *env) cases(t *testing.T, recordSeal bool) cases {
	t.Helper()
	provider := kmstest.Memory()
	contextOf := func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		tenant := ""
		switch r := s.Record.(type) {
		case *oldCase:
			tenant = r.Tenant
		case *newCase:
			tenant = r.Tenant
		}
		return kmsencrypted.Context{"tenant": tenant}, nil
	}
	box := func(encryptOnly bool) *kmsencrypted.Box {
		v := kmsencrypted.Version{Provider: provider, Context: contextOf, RecordSeal: recordSeal, EncryptOnly: encryptOnly}
		return must1(kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: v}}.Box())(t)
	}
	complete := field.Config{Table: e.table, Complete: true}
	c := cases{
		env:         e,
		old:         must1(field.NewModel[oldCase](box(false), complete))(t),
		oldEncrypts: must1(field.NewModel[oldCase](box(true), complete))(t),
		new:         must1(field.NewModel[newCase](box(false), complete))(t),
	}
	createTable(t, e, c.new, "id "+e.id+", tenant_id varchar(20) NOT NULL")
	return c
}

// read reads what the old release knows, without opening it.
func (c cases) read(t *testing.T, id int64) (row oldCase) {
	t.Helper()
	must(t, c.db.Get(&row, c.db.Rebind("SELECT id, tenant_id, encrypted_kms_key, email_ciphertext, phone_ciphertext FROM "+c.table+" WHERE id = ?"), id))
	return row
}

// get reads everything.
func (c cases) get(t *testing.T, id int64) (row newCase) {
	t.Helper()
	must(t, kmssqlx.Get(t.Context(), c.db, c.new, &row, "SELECT * FROM "+c.table+" WHERE id = ?", id))
	return row
}

// setNote is the new release, which sets the column that the old one does not know.
func (c cases) setNote(t *testing.T, id int64) {
	t.Helper()
	row := c.get(t, id)
	row.Note.Set(new("note@" + secret))
	must(t, kmssqlx.Update(t.Context(), c.db, c.new, &row))
}

// A data key that was made for a row and not written stays one that would replace
// the row's, whatever the program does next with the record. What another release
// has sealed under the row's key is never lost.
func unwrittenKeyLosesNothing(t *testing.T, e *env) {
	setAll := func(r *oldCase) {
		r.Email.Set(email(1))
		r.Phone.Set("phone@" + secret)
	}
	unwritten := map[string]struct {
		encryptOnly bool
		do          func(*testing.T, cases, *field.Model[oldCase], *oldCase)
		want        error
	}{
		"UpdateRefused": {true, func(t *testing.T, c cases, m *field.Model[oldCase], r *oldCase) {
			c.setNote(t, r.ID)
			*r = c.read(t, r.ID)
			setAll(r)
			wantError(t, "Update", kmssqlx.Update(t.Context(), c.db, m, r), kmsencrypted.ErrNeedsDecrypt)
		}, kmsencrypted.ErrNeedsDecrypt},
		"UpdateRolledBack": {true, func(t *testing.T, c cases, m *field.Model[oldCase], r *oldCase) {
			tx := must1(c.db.BeginTxx(t.Context(), nil))(t)
			setAll(r)
			must(t, kmssqlx.Update(t.Context(), tx, m, r))
			must(t, tx.Rollback())
			c.setNote(t, r.ID)
		}, kmsencrypted.ErrNeedsDecrypt},
		"RekeyRefused": {false, func(t *testing.T, c cases, m *field.Model[oldCase], r *oldCase) {
			wantError(t, "Rekey", kmssqlx.Rekey(t.Context(), c.db, m, r), kmsencrypted.ErrConfig)
			c.setNote(t, r.ID)
		}, kmsencrypted.ErrConfig},
	}
	next := map[string]func(*testing.T, cases, *field.Model[oldCase], *oldCase) error{
		"Move": func(t *testing.T, c cases, m *field.Model[oldCase], r *oldCase) error {
			r.Tenant = "b"
			return kmssqlx.Update(t.Context(), c.db, m, r)
		},
		"SetOne": func(t *testing.T, c cases, m *field.Model[oldCase], r *oldCase) error {
			r.Phone.Set("fax@" + secret)
			return kmssqlx.Update(t.Context(), c.db, m, r)
		},
		"Rewrap": func(t *testing.T, c cases, m *field.Model[oldCase], r *oldCase) error {
			return kmssqlx.Rewrap(t.Context(), c.db, m, r)
		},
		"WipeSetAll": func(t *testing.T, c cases, m *field.Model[oldCase], r *oldCase) error {
			r.Key.Wipe()
			setAll(r)
			return kmssqlx.Update(t.Context(), c.db, m, r)
		},
	}
	for _, recordSeal := range []bool{false, true} {
		e.table += "x"
		c := e.cases(t, recordSeal)
		for before, u := range unwritten {
			for after, do := range next {
				row := newCase{Tenant: "a", Email: field.New(email(0)), Phone: field.New("phone@" + secret)}
				must(t, kmssqlx.Insert(t.Context(), c.db, c.new, &row))
				m := c.old
				if u.encryptOnly {
					m = c.oldEncrypts
				}
				r := c.read(t, row.ID)
				u.do(t, c, m, &r)
				err := do(t, c, m, &r)
				wantError(t, before+" and "+after, err, u.want)
				if got := c.get(t, row.ID); got.Tenant != "a" || got.Email.Must() != email(0) || *got.Note.Must() != "note@"+secret {
					t.Errorf("record seal %t: %s and %s changed the row", recordSeal, before, after)
				}
			}
		}
	}
}
