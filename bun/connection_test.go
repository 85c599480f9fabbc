package kmsbun_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"github.com/uptrace/bun"

	"github.com/kmsencrypted/kmsencrypted"
	kmsbun "github.com/kmsencrypted/kmsencrypted/bun"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type note struct {
	bun.BaseModel `bun:"table:notes"`
	ID            int64            `bun:",pk,autoincrement" db:"id"`
	Title         string           `db:"title"`
	Key           field.Key        `bun:"encrypted_kms_key" db:"encrypted_kms_key"`
	Body          field.Of[string] `bun:"body_ciphertext" db:"body_ciphertext"`
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, what string, err error, want ...error) {
	t.Helper()
	for _, target := range want {
		if !errors.Is(err, target) {
			t.Errorf("%s: %v, want %v", what, err, target)
		}
	}
}

// notes is a database with a table of notes.
func notes(t testing.TB, raw *sql.DB, d field.Dialect, id string) (*bun.DB, *field.Model[note]) {
	t.Helper()
	m, err := field.NewModel[note](kmstest.NewService(kmstest.Memory()).Box(t), field.Config{Table: "notes"})
	must(t, err)
	_, err = raw.Exec("CREATE TABLE notes (id " + id + ", title varchar(20), encrypted_kms_key text, body_ciphertext text)")
	must(t, err)
	db := bun.NewDB(raw, dialectFor(d))
	must(t, kmsbun.Use(db, m))
	return db, m
}

func openSQLite(t testing.TB) *sql.DB {
	t.Helper()
	raw, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "test.db"))
	must(t, err)
	t.Cleanup(func() { raw.Close() })
	return raw
}

func TestConnectionSQLite(t *testing.T) {
	t.Parallel()
	testConnection(t, openSQLite(t), field.SQLite, "INTEGER PRIMARY KEY")
}

func TestConnectionPostgres(t *testing.T) {
	t.Parallel()
	raw, err := sql.Open("pgx", dbserver.Postgres(t))
	must(t, err)
	t.Cleanup(func() { raw.Close() })
	testConnection(t, raw, field.Postgres, "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
}

func TestConnectionMariaDB(t *testing.T) {
	t.Parallel()
	raw, err := sql.Open("mysql", dbserver.MariaDB(t))
	must(t, err)
	t.Cleanup(func() { raw.Close() })
	testConnection(t, raw, field.MySQL, "bigint AUTO_INCREMENT PRIMARY KEY")
}

// On a connection of its own a refused statement reaches the driver, which must not send
// it, because its context has ended.
func testConnection(t *testing.T, raw *sql.DB, d field.Dialect, id string) {
	db, _ := notes(t, raw, d, id)
	conn, err := db.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	n := note{Title: "first", Body: field.New("secret one")}
	_, err = conn.NewInsert().Model(&n).Exec(t.Context())
	must(t, err)
	_, err = conn.ExecContext(t.Context(), "UPDATE notes SET title = 'x', body_ciphertext = ?", "secret two")
	if err == nil {
		t.Error("Exec on a connection: no error")
	}
	if d == field.Postgres { // pgx takes a context that has ended for a broken connection
		conn, err = db.Conn(t.Context())
		must(t, err)
		defer conn.Close()
	} else {
		wantError(t, "Exec on a connection", err, kmsencrypted.ErrUnsealed)
	}
	_, err = db.QueryContext(t.Context(), "SELECT title FROM notes WHERE body_ciphertext = ?", "secret two")
	wantError(t, "Query", err, kmsencrypted.ErrUnsealed)
	must(t, conn.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
		n.Body.Set("secret three")
		_, err := tx.NewUpdate().Model(&n).WherePK().Exec(ctx)
		return err
	}))
	var read note
	must(t, conn.NewSelect().Model(&read).Scan(t.Context()))
	if read.Title != "first" || read.Body.Must() != "secret three" {
		t.Errorf("the row is %q", read.Title)
	}
}
