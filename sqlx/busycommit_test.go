package kmssqlx_test

import (
	"path/filepath"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// While somebody reads, SQLite may refuse a commit and leave the transaction open. The
// driver must end it: what the connection writes later would go into it, and be lost.
func TestRefusedCommitSQLite(t *testing.T) {
	t.Parallel()
	type customer struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext"`
	}
	customers, err := field.NewModel[customer](kmstest.Box(t), field.Config{Table: "customers"})
	must(t, err)
	path := filepath.Join(t.TempDir(), "app.sqlite3")
	pool := func() *sqlx.DB {
		db, err := sqlx.Open("sqlite", "file:"+path+"?_pragma=journal_mode(delete)&_pragma=busy_timeout(1)")
		must(t, err)
		t.Cleanup(func() { db.Close() })
		db.SetMaxOpenConns(1)
		return db
	}
	writer, reader := pool(), pool()
	writer.MustExec("CREATE TABLE customers (id integer PRIMARY KEY, encrypted_kms_key text, email_ciphertext text)")
	must(t, kmssqlx.Insert(t.Context(), writer, customers, &customer{ID: 1, Email: field.New("ada@example.org")}))

	reading, err := reader.Queryx("SELECT id FROM customers")
	must(t, err)
	if !reading.Next() {
		t.Fatal("nothing to read")
	}
	tx := writer.MustBegin()
	must(t, kmssqlx.Insert(t.Context(), tx, customers, &customer{ID: 2, Email: field.New("grace@example.org")}))
	if err := tx.Commit(); err == nil {
		t.Fatal("SQLite commits although somebody reads: this test tests nothing")
	}
	must(t, reading.Close())

	must(t, kmssqlx.Insert(t.Context(), writer, customers, &customer{ID: 3, Email: field.New("edsger@example.org")}))
	var found []customer
	must(t, kmssqlx.Select(t.Context(), reader, customers, &found, "SELECT * FROM customers ORDER BY id"))
	if len(found) != 2 || found[1].ID != 3 || found[1].Email.Must() != "edsger@example.org" {
		t.Errorf("others see %v, want records 1 and 3", found)
	}
}
