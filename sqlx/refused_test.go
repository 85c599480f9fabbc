package kmssqlx_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// refusedAndReadInPart: the database refuses an update, the program reads a part of the
// row into the same struct, and writes again: nothing of what it set is lost, or there is
// an error.
func refusedAndReadInPart(t *testing.T, e *env) {
	d := e.documents(t, false)
	for name, again := range map[string]string{
		"nothing":           "",
		"the key":           "encrypted_kms_key",
		"a part":            "encrypted_kms_key, notes_ciphertext",
		"the other columns": "id, tenant_id, notes_ciphertext",
	} {
		for _, firstKey := range []bool{true, false} {
			for i := range 4 {
				moves, rekeyed := i&1 > 0, i&2 > 0
				c := document{Tenant: "a", Title: "before"}
				if !firstKey {
					c.Body, c.Notes = field.New(email(0)), field.New(email(1))
				}
				must(t, kmssqlx.Insert(t.Context(), e.db, d.Model, &c))
				c = d.get(t, c.ID)
				c.Body.Set(email(2))
				c.Title = "a title that is longer than its column"
				if moves {
					c.Tenant = "b"
				}
				if e.dialect == field.SQLite { // which takes any length
					tx, err := e.db.BeginTxx(t.Context(), nil)
					must(t, err)
					must(t, kmssqlx.Update(t.Context(), tx, d.Model, &c, "title"))
					must(t, tx.Rollback())
				} else {
					wantError(t, "a title too long", kmssqlx.Update(t.Context(), e.db, d.Model, &c, "title"))
				}
				if rekeyed { // by another program
					other := d.get(t, c.ID)
					other.Notes.Set(email(1))
					must(t, kmssqlx.Update(t.Context(), e.db, d.Model, &other))
					must(t, kmssqlx.Rekey(t.Context(), e.db, d.Model, &other))
				}
				if again != "" {
					must(t, e.db.QueryRowx(e.db.Rebind("SELECT "+again+" FROM "+e.table+" WHERE id = ?"), c.ID).StructScan(&c))
				}
				c.Title = "after"
				err := kmssqlx.Update(t.Context(), e.db, d.Model, &c, "title")
				got := d.get(t, c.ID)
				if err == nil && (got.Body.IsNull() || got.Body.Must() != email(2) || got.Title != "after") || err != nil && got.Title != "before" {
					t.Errorf("%s is read again, first key %t, moves %t, rekeyed %t: %v, title %q, body there: %t", name, firstKey, moves, rekeyed, err, got.Title, !got.Body.IsNull())
				}
				if !firstKey && got.Notes.Must() != email(1) {
					t.Errorf("%s is read again: the notes are lost", name)
				}
				if err != nil && !errors.Is(err, kmsencrypted.ErrConflict) && !errors.Is(err, kmsencrypted.ErrNotLoaded) && !errors.Is(err, kmsencrypted.ErrNotOpened) && !errors.Is(err, kmsencrypted.ErrConfig) && !errors.Is(err, kmsencrypted.ErrUnsealed) && !(moves && errors.Is(err, kmsencrypted.ErrDecrypt)) {
					t.Errorf("%s is read again: %v", name, err)
				}
			}
		}
	}
}

// oddNames: columns of any names, and keys in columns of bytes.
func oddNames(t *testing.T, e *env) {
	type odd struct {
		ID   int64            `db:"id"`
		Key  field.Key        `db:"key of all"`
		Card field.Of[string] `db:"odd@name"`
		More field.Of[string] `db:"it's 100%"`
	}
	m := model[odd](t, e, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}}})
	createTable(t, e, m, "id "+e.id)
	c := odd{Card: field.New(secret), More: field.New(secret)}
	must(t, kmssqlx.Insert(t.Context(), e.db, m, &c))
	c.More.Set(secret + "2")
	must(t, kmssqlx.Update(t.Context(), e.db, m, &c))
	must(t, kmssqlx.Rekey(t.Context(), e.db, m, &c))
	many := []*odd{{Card: field.New(secret)}, {Card: field.New(secret)}}
	must(t, kmssqlx.Insert(t.Context(), e.db, m, many...))
	var read odd
	must(t, kmssqlx.Get(t.Context(), e.db, m, &read, "SELECT * FROM "+e.table+" WHERE id = ?", c.ID))
	if read.Card.Must() != secret || read.More.Must() != secret+"2" {
		t.Error("read back another value")
	}
}

// keyOfBytes is a column of bytes for a wrapped key, which is text.
func keyOfBytes(t *testing.T, e *env) {
	m := model[spelled](t, e, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}}})
	bytes := map[field.Dialect]string{field.Postgres: "bytea", field.MySQL: "blob", field.SQLite: "blob"}[e.dialect]
	_, err := e.db.Exec("CREATE TABLE " + e.table + " (id varchar(40) PRIMARY KEY, encrypted_kms_key " + bytes + ", card text)")
	must(t, err)
	for _, id := range []string{"a", "b"} {
		c := spelled{ID: id, Card: field.New(secret)}
		must(t, kmssqlx.Insert(t.Context(), e.db, m, &c))
		for _, fresh := range []bool{false, true} {
			if fresh {
				must(t, kmssqlx.Get(t.Context(), e.db, m, &c, "SELECT * FROM "+e.table+" WHERE id = ?", id))
			}
			c.Card.Set(secret + "2")
			must(t, kmssqlx.Update(t.Context(), e.db, m, &c))
			must(t, kmssqlx.Rekey(t.Context(), e.db, m, &c))
			must(t, kmssqlx.Rewrap(t.Context(), e.db, m, &c))
		}
	}
	var read []spelled
	must(t, kmssqlx.Select(t.Context(), e.db, m, &read, "SELECT * FROM "+e.table))
	if len(read) != 2 || read[0].Card.Must() != secret+"2" {
		t.Errorf("%d rows", len(read))
	}
}
