package kmspgx_test

import (
	"io"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
)

// The examples need a server, so that go test does not run them by itself.
func TestExamplesPostgres(t *testing.T) {
	dsn := dbserver.Postgres(t)
	t.Setenv("DATABASE_URL", dsn)
	conn, err := pgx.Connect(t.Context(), dsn)
	must(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `
		CREATE TABLE persons (id bigserial PRIMARY KEY, name text, encrypted_kms_key text, email_ciphertext text, email_bidx text);
		CREATE TABLE counters (name text PRIMARY KEY, n int);
		INSERT INTO counters VALUES ('persons', 1)`)
	must(t, err)

	if got := printed(t, Example); got != "Ada ada@example.org\n" {
		t.Errorf("Example printed %q", got)
	}
	must(t, kmspgx.Insert(t.Context(), conn, newPersons(), &Person{Name: "Ada", Email: field.New("ada@example.org")}))
	printed(t, ExampleBatch)
	if got := printed(t, ExampleQuery); got != "Grace grace@example.org\n" { // Ada has another address now
		t.Errorf("ExampleQuery printed %q", got)
	}
	printed(t, ExampleCopyFrom)
	var persons, counted int
	must(t, conn.QueryRow(t.Context(), "SELECT count(*), (SELECT n FROM counters) FROM persons").Scan(&persons, &counted))
	if persons != 10_002 || counted != 2 {
		t.Errorf("%d persons, counter %d", persons, counted)
	}
}

// printed returns what a function prints.
func printed(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	stdout := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	f()
	must(t, w.Close())
	text, err := io.ReadAll(r)
	must(t, err)
	return string(text)
}
