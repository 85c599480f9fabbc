package rotatecli_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// granted is the table whose rights docs/cli.md lists.
type granted struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

func grantedAt(t *testing.T, version int) *field.Model[granted] {
	t.Helper()
	versions := make(map[int]kmsencrypted.Version)
	for n := range version {
		versions[n+1] = kmsencrypted.Version{Provider: testkey.New()}
	}
	box, err := kmsencrypted.Config{Current: version, Versions: versions}.Box()
	if err != nil {
		t.Fatal(err)
	}
	m, err := field.NewModel[granted](box, field.Config{Table: "customers"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRightsPostgres(t *testing.T) {
	dsn := dbserver.Postgres(t)
	testRights(t, rightsOf{
		dialect: field.Postgres, driver: "pgx", admin: dsn, blocks: [2]int{0, 2}, create: "CREATE ROLE %s LOGIN PASSWORD '%s'", drop: "DROP OWNED BY %[1]s; DROP ROLE %[1]s",
		as: func(user, password string) string {
			u, err := url.Parse(dsn)
			if err != nil {
				t.Fatal(err)
			}
			u.User = url.UserPassword(user, password)
			return u.String() + "&default_query_exec_mode=exec"
		},
	})
}

func TestRightsMariaDB(t *testing.T) {
	dsn := dbserver.MariaDB(t)
	testRights(t, rightsOf{
		dialect: field.MySQL, driver: "mysql", admin: dsn, blocks: [2]int{1, 2}, create: "CREATE USER %s IDENTIFIED BY '%s'", drop: "DROP USER %s",
		as: func(user, password string) string { return user + ":" + password + dsn[strings.LastIndex(dsn, "@"):] },
	})
}

type rightsOf struct {
	dialect field.Dialect
	driver  string
	admin   string
	blocks  [2]int // of SQL in docs/cli.md: for ops and for the application
	create  string
	drop    string
	as      func(user, password string) (dsn string)
}

// blocks are the blocks of SQL about rights.
func rightsInDocs(t *testing.T) (blocks [][]string) {
	t.Helper()
	page, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		blocks = append(blocks, strings.Split(strings.TrimSpace(block[1]), "\n"))
	}
	if len(blocks) != 3 {
		t.Fatalf("%d blocks of SQL in docs/cli.md, want 3", len(blocks))
	}
	return blocks
}

// The rights that the page lists suffice, and each of them is needed: without it the
// command says which is missing before it moves anything.
func testRights(t *testing.T, r rightsOf) {
	t.Parallel()
	open := func(dsn string) *sql.DB {
		db, err := sql.Open(r.driver, dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	admin := open(r.admin)
	exec := func(statement string) {
		t.Helper()
		if _, err := admin.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	user := func(block int, name string) (*sql.DB, string) {
		password, unique := rand.Text(), name+"_"+strings.ToLower(rand.Text()[:10])
		exec(fmt.Sprintf(r.create, unique, password))
		t.Cleanup(func() {
			for _, statement := range strings.Split(fmt.Sprintf(r.drop, unique), "; ") {
				exec(statement)
			}
		})
		for _, statement := range rightsInDocs(t)[block] {
			exec(strings.TrimSuffix(strings.ReplaceAll(statement, " TO "+name, " TO "+unique), ";"))
		}
		return open(r.as(unique, password)), unique
	}
	exec("CREATE TABLE customers (id bigint PRIMARY KEY, encrypted_kms_key text, email_ciphertext text)")
	if err := sqlstore.CreateTables(t.Context(), admin, r.dialect); err != nil {
		t.Fatal(err)
	}
	appDB, _ := user(r.blocks[1], "app")
	app := sqlx.NewDb(appDB, r.driver)
	for i := range int64(40) {
		record := granted{ID: i + 1, Email: field.New(secretEmail)}
		if err := kmssqlx.Insert(t.Context(), app, grantedAt(t, 1), &record); err != nil {
			t.Fatal(err)
		}
	}
	db, ops := user(r.blocks[0], "ops")
	run := func(version, code int, words ...string) string {
		t.Helper()
		var out bytes.Buffer
		p := rotatecli.Program{
			Name: "ops", Stdout: &out, Stderr: &out,
			Open: func(context.Context) (*rotatecli.Database, error) {
				return &rotatecli.Database{DB: db, Dialect: r.dialect, Models: []field.AnyModel{grantedAt(t, version)}}, nil
			},
		}
		if got := p.Run(t.Context(), words); got != code {
			t.Errorf("%s = %d, want %d\n%s", strings.Join(words, " "), got, code, &out)
		}
		return out.String()
	}
	// Each right by itself. Without SELECT on them the tables of rotations are hidden.
	rekey := []string{"rotate", "run", "--kind", "rekey", "--writers-are-ours"}
	for _, table := range []string{"kms_rotations", "kms_rotation_shards", "kms_rotation_failures", "kms_rotation_journal"} {
		for _, verb := range []string{"SELECT", "INSERT", "UPDATE", "DELETE"} {
			rewritten := strings.HasSuffix(table, "s") && !strings.HasSuffix(table, "failures")
			if verb == "UPDATE" && !rewritten || verb == "DELETE" && rewritten {
				continue
			}
			exec("REVOKE " + verb + " ON " + table + " FROM " + ops)
			said := run(2, 1, "rotate", "run")
			if !strings.Contains(said, verb+" on "+table) {
				t.Errorf("without %s on %s: %s", verb, table, said)
			}
			exec("GRANT " + verb + " ON " + table + " TO " + ops)
		}
	}
	exec("REVOKE SELECT ON kms_rotations FROM " + ops)
	for _, command := range []string{"status", "history", "verify", "pause"} {
		if said := run(2, 1, "rotate", command); !strings.Contains(said, "may not read kms_rotations") {
			t.Errorf("%s without SELECT on kms_rotations: %s", command, said)
		}
	}
	exec("GRANT SELECT ON kms_rotations TO " + ops)
	if said := run(2, 0, "rotate", "plan"); strings.Contains(said, "!") {
		t.Errorf("plan: %s", said)
	}
	// All of them together.
	if said := run(2, 0, "rotate", "run", "--kms-rate", "10000", "--max-connections", "1000"); !strings.Contains(said, "40 rewrapped") {
		t.Error(said)
	}
	for _, words := range [][]string{{"rotate", "status"}, {"rotate", "history"}, {"rotate", "pause"}, {"rotate", "verify"}, {"rotate", "clear-journal", "--grace", "0s"}, {"versions", "retire", "1"}, {"check"}} {
		run(2, 0, words...)
	}
	if said := run(3, 1, rekey...); !strings.Contains(said, "lacks UPDATE on customers") {
		t.Errorf("rekey with the rights of a rewrap: %s", said)
	}
	exec("GRANT UPDATE ON customers TO " + ops)
	if said := run(3, 0, rekey...); !strings.Contains(said, "40 rekeyed") {
		t.Error(said)
	}
	for _, words := range [][]string{{"rotate", "heal"}, {"rotate", "verify"}, {"rotate", "clear-journal", "--grace", "0s"}, {"versions", "retire", "2"}} {
		run(3, 0, words...)
	}
	// The application reads, writes and erases.
	model := grantedAt(t, 3)
	var record granted
	if err := kmssqlx.Get(t.Context(), app, model, &record, "SELECT * FROM customers WHERE id = 7"); err != nil || record.Email.Must() != secretEmail {
		t.Fatalf("the application reads: %v", err)
	}
	record.Email.Set("other")
	store, err := sqlstore.New(t.Context(), appDB, r.dialect, model, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"writes": kmssqlx.Update(t.Context(), app, model, &record), "erases": store.Forget(t.Context(), app, &record)} {
		if err != nil {
			t.Errorf("the application %s: %v", what, err)
		}
	}
}
