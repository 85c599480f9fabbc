package starter

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
)

// databases have types of columns by how a program holds them.
var databases = []struct {
	name, driver string
	dialect      field.Dialect
	dsn          func(testing.TB) string
	types        []string
}{
	{"SQLite", "sqlite", field.SQLite, func(t testing.TB) string { return filepath.Join(t.TempDir(), "app.sqlite3") },
		[]string{"TEXT", "VARCHAR(20)", "INTEGER", "BOOLEAN", "REAL", "DATE", "DATETIME", "BLOB", "NUMERIC(10,2)"}},
	{"Postgres", "pgx", field.Postgres, dbserver.Postgres,
		[]string{"text", "character varying(20)", "bigint", "boolean", "double precision", "date", "timestamp with time zone", "bytea", "numeric(10,2)", "jsonb", "uuid", "time without time zone", "inet"}},
	{"MariaDB", "mysql", field.MySQL, func(t testing.TB) string { return dbserver.MariaDB(t) + "&multiStatements=true" },
		[]string{"longtext", "varchar(20)", "bigint unsigned", "tinyint(1)", "double", "date", "datetime(6)", "varbinary(80)", "decimal(10,2)", "enum('a','b')", "time"}},
}

// Whatever the columns of a table are, what is written for it is Go, and its migration runs:
// upwards it makes the columns, and a constraint that refuses plaintext; downwards it keeps them.
func TestMigrations(t *testing.T) {
	t.Parallel()
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db, err := sql.Open(d.driver, d.dsn(t))
			must(t, err)
			t.Cleanup(func() { db.Close() })
			random := rand.New(rand.NewPCG(1, 2))
			sealed, refused := 0, 0
			for n := range 20 {
				name := fmt.Sprintf("order_lines%d", n)
				var columns, encrypt []string
				find := make(map[string]string)
				for i := range 1 + random.IntN(6) {
					null := []string{"", " NOT NULL"}[random.IntN(2)]
					columns = append(columns, fmt.Sprintf("c%d_of_it %s%s", i, d.types[random.IntN(len(d.types))], null))
					if i == 0 || random.IntN(2) == 0 {
						encrypt = append(encrypt, fmt.Sprintf("c%d_of_it", i))
					}
				}
				if random.IntN(2) == 0 {
					encrypt = append(encrypt, "iban")
					find["iban"] = []string{"", "lower"}[random.IntN(2)]
				}
				_, err := db.Exec(fmt.Sprintf("CREATE TABLE %s (id bigint PRIMARY KEY, %s)", name, strings.Join(columns, ", ")))
				must(t, err)
				table := tableOf(t, db, d.dialect, name)
				tool := []string{"golang-migrate", "goose"}[random.IntN(2)]
				plan, err := NewPlan(Choice{
					Dialect: d.dialect, Table: table, Encrypt: encrypt, Find: find, Key: "local:k", DSNEnv: "DSN", Package: "models",
					Module: "example.org/shop", Tool: tool, Now: time.Unix(1e9, 0),
				})
				must(t, err)
				files, err := plan.Files()
				must(t, err)
				up, down := halves(t, tool, files)
				_, err = db.Exec(up)
				must(t, err)
				for _, column := range encrypt {
					sealed++
					if _, ok := tableOf(t, db, d.dialect, name).Column(column + "_ciphertext"); !ok {
						t.Errorf("%s has no column for %s after\n%s", name, column, up)
					}
					if d.dialect == field.SQLite || strings.Contains(strings.Join(columns, ""), "NOT NULL") {
						continue
					}
					_, err := db.Exec("INSERT INTO " + name + " (id, " + column + "_ciphertext) VALUES (1, 'Ada')")
					if err == nil || !strings.Contains(err.Error(), name+"_encrypted") {
						t.Errorf("%s takes plaintext for %s: %v", name, column, err)
					}
					refused++
				}
				_, err = db.Exec(down)
				must(t, err)
				if after := tableOf(t, db, d.dialect, name); len(after.Columns) <= len(table.Columns) {
					t.Errorf("%s has lost its encrypted columns", name)
				}
			}
			if d.dialect != field.SQLite && refused == 0 {
				t.Error("no constraint was tried")
			}
			t.Logf("counted: 20 tables with %d encrypted columns, %d of them tried with plaintext", sealed, refused)
		})
	}
}

// halves returns the statements of a migration.
func halves(t *testing.T, tool string, files []File) (up, down string) {
	t.Helper()
	for _, f := range files {
		switch {
		case tool == "goose" && strings.HasPrefix(f.Path, "migrations/20010909014640_encrypt_"):
			up, down, _ = strings.Cut(strings.TrimPrefix(f.Text, "-- +goose Up\n"), "-- +goose Down\n")
		case strings.HasSuffix(f.Path, ".up.sql"):
			up = f.Text
		case strings.HasSuffix(f.Path, ".down.sql"):
			down = f.Text
		}
	}
	if up == "" || down == "" {
		t.Fatalf("no migration of %s in %v", tool, files)
	}
	return up, down
}

func tableOf(t *testing.T, db *sql.DB, d field.Dialect, name string) Table {
	t.Helper()
	all, err := Tables(t.Context(), db, d)
	must(t, err)
	i := slices.IndexFunc(all, func(t Table) bool { return t.Name == name })
	if i < 0 {
		t.Fatalf("no table %s in %v", name, all)
	}
	return all[i]
}

// What cannot be is said before anything is written.
func TestMistakes(t *testing.T) {
	t.Parallel()
	good := Choice{
		Dialect: field.SQLite, Table: Table{"customers", []Column{{"id", "bigint", true, true}, {"email", "text", true, false}}},
		Encrypt: []string{"email"}, Package: "models", Tool: "goose",
	}
	if _, err := NewPlan(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Choice){
		"nothing to encrypt":    func(c *Choice) { c.Encrypt = nil },
		"a part of the key":     func(c *Choice) { c.Encrypt = []string{"id"} },
		"twice":                 func(c *Choice) { c.Encrypt = []string{"email", "email"} },
		"an index of nothing":   func(c *Choice) { c.Find = map[string]string{"phone": ""} },
		"an unknown expression": func(c *Choice) { c.Find = map[string]string{"email": "upper"} },
		"no package":            func(c *Choice) { c.Package = "a b" },
		"no name in Go":         func(c *Choice) { c.Encrypt = []string{"1st"} },
		"taken": func(c *Choice) {
			c.Table.Columns = append(slices.Clone(c.Table.Columns), Column{"email_ciphertext", "text", false, false})
		},
		"no primary key": func(c *Choice) { c.Table.Columns = c.Table.Columns[1:] },
		"no dialect":     func(c *Choice) { c.Dialect = "oracle" },
	} {
		c := good
		change(&c)
		if p, err := NewPlan(c); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: NewPlan = %v, %v, want ErrConfig", name, p, err)
		}
	}
	bad := good
	bad.Tool = "flyway"
	p, err := NewPlan(bad)
	must(t, err)
	if files, err := p.Files(); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Files for another tool = %v, %v", files, err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for table, want := range map[string][2]string{
		"customers": {"Customers", "Customer"}, "order_lines": {"OrderLines", "OrderLine"}, "companies": {"Companies", "Company"},
		"addresses": {"Addresses", "Address"}, "boxes": {"Boxes", "Box"}, "staff": {"Staff", "StaffRecord"}, "user_ids": {"UserIds", "UserId"},
	} {
		if got := goName(table); got != want[0] || singular(got) != want[1] {
			t.Errorf("table %s: %s, %s, want %v", table, got, singular(got), want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
