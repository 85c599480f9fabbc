package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

func TestCommandPostgres(t *testing.T) {
	testCommand(t, server{"postgres", "pgx", field.Postgres, dbserver.Postgres(t), "uuid", "$1, $2, $3, $4"})
}

func TestCommandMariaDB(t *testing.T) {
	testCommand(t, server{"mysql", "mysql", field.MySQL, dbserver.MariaDB(t), "char(36)", "?, ?, ?, ?"})
}

type server struct {
	name, driver string
	dialect      field.Dialect
	dsn          string
	uuid         string // type of the primary key
	values       string
}

// account has a UUID as its primary key and a column that its context names.
type account struct {
	ID     string           `db:"id" kms:"id"`
	Tenant int64            `db:"tenant"`
	Key    field.Key        `db:"encrypted_kms_key"`
	IBAN   field.Of[string] `db:"iban_ciphertext"`
}

const secretIBAN = "GB33BUKB20201555555555"

// command runs the command as a process would be, and returns its output.
func command(t *testing.T, want int, words ...string) string {
	t.Helper()
	var out bytes.Buffer
	if got := run(t.Context(), words, strings.NewReader(""), &out, &out); got != want {
		t.Fatalf("%s: exit code %d, want %d\n%s", strings.Join(words, " "), got, want, out.String())
	}
	if strings.Contains(out.String(), secretIBAN) || strings.Contains(out.String(), "hunter2") {
		t.Errorf("%s: the output holds a secret", strings.Join(words, " "))
	}
	return out.String()
}

func says(t *testing.T, output, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(output) {
		t.Errorf("no %q in:\n%s", pattern, output)
	}
}

// The commands that speak to a database do so in its own dialect.
func testCommand(t *testing.T, s server) {
	t.Setenv("KMSENCRYPTED_TEST_DSN", s.dsn)
	dir := t.TempDir()
	db, err := sql.Open(s.driver, s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	oldKey := filepath.Join(dir, "old.key")
	newKey := filepath.Join(dir, "new.key")
	command(t, 0, "keygen", oldKey)
	command(t, 0, "keygen", newKey)
	s.admit(t, db, oldKey)

	generated := command(t, 0, "schema", "--driver", s.name, "--dsn-env", "KMSENCRYPTED_TEST_DSN")
	says(t, generated, `(?s)table: accounts.*id:\s+- id.*column: encrypted_kms_key.*\{column: iban_ciphertext, type: string\}`)

	file := filepath.Join(dir, "kmsencrypted.yaml")
	text := fmt.Sprintf(`database: {driver: %s, dsn: "${KMSENCRYPTED_TEST_DSN}"}
current: 2
versions:
  1: {key: "local:%s"}
  2: {key: "local:%s", context: {table: "{model_name}", id: "{model_id}", tenant: "{tenant}"}}
tables:
  - table: accounts
    columns: [{column: iban_ciphertext}]
`, s.name, oldKey, newKey)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ops := func(want int, words ...string) string {
		return command(t, want, append([]string{"-c", file}, words...)...)
	}
	says(t, ops(0, "check"), `accounts  - no constraint keeps plaintext out`)
	constraint := ops(0, "check", "--constraints")
	if _, err := db.Exec(strings.TrimSpace(constraint[strings.Index(constraint, "ALTER TABLE"):])); err != nil {
		t.Fatalf("the constraint that check prints: %v", err)
	}
	says(t, ops(0, "check"), `^accounts  in order`)
	says(t, ops(0, "rotate", "plan", "--to", "2"), `accounts   150 rows   v1 150   rewrap to v2   400 KMS calls`)
	says(t, ops(0, "rotate", "run", "--canary"), `accounts  canary: \d+ rewrapped`)
	says(t, ops(0, "rotate", "run", "--kms-rate", "50000", "--max-connections", "1000"), `accounts  \d+ rewrapped in .* done`)
	says(t, ops(0, "rotate", "run", "--kind", "rekey", "--writers-are-ours"), `accounts  0 rekeyed in .* done`)
	says(t, ops(0, "rotate", "verify"), `accounts  150 opened  clean`)
	says(t, ops(0, "rotate", "status"), `accounts   v2 150   all at v2`)
	says(t, ops(0, "rotate", "history"), `rewrap to v2 +done +150`)
	says(t, ops(2, "versions", "retire", "1"), `the journal holds 150 keys at it`)
	says(t, ops(0, "rotate", "clear-journal", "--grace", "0s"), `accounts  150 replaced keys erased`)
	says(t, ops(0, "versions", "retire", "1"), `yes: no record of accounts is at version 1`)
	says(t, ops(0, "inspect", "--table", "accounts", "--id", uuidOf(7)), `encrypted_kms_key +version 2 · native · data key`)
	says(t, ops(1, "inspect", "--table", "accounts", "--id", uuidOf(7777)), `has no record`)

	// A password in a DSN that does not work is not repeated.
	t.Setenv("KMSENCRYPTED_TEST_DSN", "%zz://app:hunter2@nowhere/%zz")
	ops(1, "rotate", "status")
}

func uuidOf(n int) string { return fmt.Sprintf("6ba7b810-9dad-11d1-80b4-%012d", n) }

// admit fills the table as an application does.
func (s server) admit(t *testing.T, db *sql.DB, key string) {
	t.Helper()
	provider, err := local.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	box, err := kmsencrypted.NewBox(provider)
	if err != nil {
		t.Fatal(err)
	}
	model, err := field.NewModel[account](box, field.Config{Table: "accounts"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE accounts (id " + s.uuid + " PRIMARY KEY, tenant bigint, encrypted_kms_key text, iban_ciphertext text)"); err != nil {
		t.Fatal(err)
	}
	for i := range 150 {
		a := account{ID: uuidOf(i), Tenant: int64(i % 3), IBAN: field.New(secretIBAN)}
		if err := model.Seal(context.Background(), &a); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("INSERT INTO accounts VALUES ("+s.values+")", a.ID, a.Tenant, a.Key, a.IBAN); err != nil {
			t.Fatal(err)
		}
	}
}
