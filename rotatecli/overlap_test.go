package rotatecli_test

import (
	"bytes"
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// Of a table and a part of it only one is counted: otherwise every number of the
// commands would be too large.
func TestOverlapPostgres(t *testing.T) {
	testOverlap(t, field.Postgres, "pgx", dbserver.Postgres(t), map[string]string{
		"customers_2026": "CREATE TABLE customers (id bigint PRIMARY KEY, encrypted_kms_key text, email_ciphertext text) PARTITION BY RANGE (id); CREATE TABLE customers_2026 PARTITION OF customers DEFAULT",
		"customers_old":  "CREATE TABLE customers (id bigint PRIMARY KEY, encrypted_kms_key text, email_ciphertext text); CREATE TABLE customers_old (PRIMARY KEY (id)) INHERITS (customers)",
		"customers_view": "CREATE TABLE customers (id bigint PRIMARY KEY, encrypted_kms_key text, email_ciphertext text); CREATE VIEW customers_view AS SELECT * FROM customers WHERE id > 5",
	})
}

func TestOverlapMariaDB(t *testing.T) {
	testOverlap(t, field.MySQL, "mysql", dbserver.MariaDB(t), map[string]string{
		"customers_view": "CREATE TABLE customers (id bigint PRIMARY KEY, encrypted_kms_key text, email_ciphertext text); CREATE VIEW customers_view AS SELECT * FROM customers WHERE id > 5",
	})
}

func testOverlap(t *testing.T, d field.Dialect, driver, dsn string, parts map[string]string) {
	t.Parallel()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	box, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{1: {Provider: testkey.New()}, 2: {Provider: testkey.New()}}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	of := func(table string) field.AnyModel {
		m, err := field.NewModel[granted](box, field.Config{Table: table, As: "customers"})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for part, statements := range parts {
		// The other table has keys of its own, and is no part of them.
		statements += "; CREATE TABLE firms (id bigint PRIMARY KEY, encrypted_kms_key text, email_ciphertext text)"
		for _, statement := range strings.Split(statements, "; ") {
			if _, err := db.Exec(statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		run := func(code int, words ...string) string {
			t.Helper()
			var out bytes.Buffer
			p := rotatecli.Program{Name: "ops", Stdout: &out, Stderr: &out, Open: func(context.Context) (*rotatecli.Database, error) {
				return &rotatecli.Database{DB: db, Dialect: d, Models: []field.AnyModel{of("customers"), of("firms"), of(part)}}, nil
			}}
			if got := p.Run(t.Context(), words); got != code {
				t.Errorf("%s: %s = %d, want %d\n%s", part, strings.Join(words, " "), got, code, &out)
			}
			return out.String()
		}
		run(0, "rotate", "init")
		for _, words := range [][]string{{"rotate", "plan"}, {"rotate", "cost"}, {"rotate", "run"}, {"rotate", "verify"}, {"rotate", "status"}, {"versions"}, {"versions", "retire", "1"}} {
			if said := run(1, words...); !strings.Contains(said, part+" is a part of customers") {
				t.Errorf("%s: %s says %s", part, strings.Join(words, " "), said)
			}
			run(0, append(words, "--table", "firms")...)
		}
		run(0, "rotate", "plan", "--table", "customers", "--table", "firms")
		for _, statement := range []string{"DROP VIEW IF EXISTS customers_view", "DROP TABLE firms", "DROP TABLE customers", "DELETE FROM kms_rotations", "DELETE FROM kms_rotation_shards"} {
			if _, err := db.Exec(strings.Replace(statement, "TABLE customers", "TABLE customers"+map[bool]string{true: " CASCADE"}[d == field.Postgres], 1)); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}
}
