package kmssqlx_test

import (
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// SQLite takes 0 for an id like any other. Here it is one that the database makes, so
// that a row under it is neither written over nor given a key.
func TestZeroIDSQLite(t *testing.T) {
	t.Parallel()
	db := sqlx.NewDb(kmstest.Canary(t, "sqlite", sqliteFile.open(t), secret), "sqlite")
	s := (&env{server: sqliteFile, db: db, table: "customers"}).customers(t)
	db.MustExec("INSERT INTO customers (id, name) VALUES (0, 'zero')")

	c := customer{ID: 0, Name: "Ada", Email: field.New(email(0))}
	must(t, kmssqlx.Insert(t.Context(), db, s.Model, &c))
	if c.ID == 0 || s.get(t, c.ID).Email.Must() != email(0) {
		t.Errorf("Insert of id 0 gave the id %d", c.ID)
	}

	zero := s.get(t, 0)
	zero.Email.Set(email(1))
	wantError(t, "Update of id 0", kmssqlx.Update(t.Context(), db, s.Model, &zero), kmsencrypted.ErrNoID)
	if now := s.get(t, 0); now.Name != "zero" || !now.Key.IsNull() || s.count(t) != 2 {
		t.Errorf("the row 0 has changed, or there are %d rows", s.count(t))
	}
}
