package tables_test

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/tables"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
)

// The same tables as three releases know them.
var releases = []tables.Set{
	{Name: "example", Tables: []tables.Table{notes(0)}},
	{Name: "example", Tables: []tables.Table{notes(2)}},
	{Name: "example", Tables: []tables.Table{notes(3), {Name: "kms_example_more", Since: 3, Body: []string{"id {serial}", "text {text}"}}}},
}

func notes(version int) tables.Table {
	t := tables.Table{Name: "kms_example_notes", Body: []string{
		"id {name} NOT NULL PRIMARY KEY", "note {text} NOT NULL", "weight {fraction}", "made {time}", "UNIQUE (id, weight)",
	}}
	if version >= 2 {
		t.Added = append(t.Added, tables.Column{Since: 2, Name: "branch", Type: "{name}"})
		t.Indexes = append(t.Indexes, tables.Index{Since: 2, Name: "kms_example_notes_branch", Columns: "branch"})
	}
	if version >= 3 {
		t.Added = append(t.Added, tables.Column{Since: 3, Name: "size", Type: "{number} NOT NULL DEFAULT 7"})
	}
	return t
}

func TestTablesSQLite(t *testing.T) {
	test(t, field.SQLite, "sqlite", func() string {
		return "file:" + filepath.Join(t.TempDir(), "t.sqlite3") + "?_pragma=busy_timeout(10000)"
	})
}
func TestTablesPostgres(t *testing.T) {
	test(t, field.Postgres, "pgx", func() string { return dbserver.Postgres(t) })
}
func TestTablesMariaDB(t *testing.T) {
	test(t, field.MySQL, "mysql", func() string { return dbserver.MariaDB(t) })
}

func test(t *testing.T, d field.Dialect, driver string, dsn func() string) {
	open := func(t *testing.T) *sql.DB {
		db, err := sql.Open(driver, dsn())
		must(t, err)
		t.Cleanup(func() { db.Close() })
		return db
	}
	t.Run("upgraded equals new", func(t *testing.T) { upgradedEqualsNew(t, d, open(t), open(t)) })
	t.Run("an old release goes on", func(t *testing.T) { oldReleaseGoesOn(t, d, open(t)) })
	t.Run("many processes", func(t *testing.T) { manyProcesses(t, d, open(t)) })
	t.Run("printed statements", func(t *testing.T) { printed(t, d, open(t)) })
}

// upgradedEqualsNew: tables that went through every version have the columns of
// tables that are made by the newest release.
func upgradedEqualsNew(t *testing.T, d field.Dialect, upgraded, fresh *sql.DB) {
	for i, s := range releases {
		if i > 0 {
			if err := tables.Check(t.Context(), upgraded, d, s); !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("Check of version %d before the upgrade = %v, want ErrConfig", s.Version(), err)
			}
		}
		must(t, tables.Create(t.Context(), upgraded, d, s))
		must(t, tables.Check(t.Context(), upgraded, d, s))
		recorded, err := tables.Recorded(t.Context(), upgraded)
		if err != nil || recorded["example"] != i+1 || s.Version() != i+1 {
			t.Errorf("Recorded = %v, %v, want version %d", recorded, err, i+1)
		}
	}
	must(t, tables.Create(t.Context(), fresh, d, releases[2]))
	for _, name := range []string{"kms_example_notes", "kms_example_more"} {
		got, want := columns(t, upgraded, name), columns(t, fresh, name)
		if len(want) < 2 || !maps.Equal(got, want) {
			t.Errorf("columns of %s after upgrades: %v, made new: %v", name, got, want)
		}
	}
}

// oldReleaseGoesOn: it writes to upgraded tables, and its Create leaves them as they are.
func oldReleaseGoesOn(t *testing.T, d field.Dialect, db *sql.DB) {
	must(t, tables.Create(t.Context(), db, d, releases[2]))
	must(t, tables.Create(t.Context(), db, d, releases[0]))
	must(t, tables.Check(t.Context(), db, d, releases[0]))
	_, err := db.ExecContext(t.Context(), "INSERT INTO kms_example_notes (id, note, weight) VALUES ('a', 'text', 1.5)")
	must(t, err)
	var size int
	must(t, db.QueryRowContext(t.Context(), "SELECT size FROM kms_example_notes").Scan(&size))
	if recorded, err := tables.Recorded(t.Context(), db); size != 7 || err != nil || recorded["example"] != 3 {
		t.Errorf("size = %d and versions %v, %v; want 7 and 3", size, recorded, err)
	}
}

// manyProcesses create and upgrade at once.
func manyProcesses(t *testing.T, d field.Dialect, db *sql.DB) {
	for _, s := range releases {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := tables.Create(context.Background(), db, d, s); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		must(t, tables.Check(t.Context(), db, d, s))
	}
	var rows int
	must(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM kms_tables").Scan(&rows))
	if rows != 1 {
		t.Errorf("kms_tables has %d rows, want 1", rows)
	}
}

func printed(t *testing.T, d field.Dialect, db *sql.DB) {
	statements, err := tables.DDL(d, releases[2], tables.Set{Name: "other"})
	must(t, err)
	for range 2 {
		for _, s := range statements {
			if _, err := db.ExecContext(t.Context(), s); err != nil && !(d == field.MySQL && strings.HasPrefix(s, "CREATE INDEX")) {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	must(t, tables.Check(t.Context(), db, d, releases[2]))
	if recorded, err := tables.Recorded(t.Context(), db); err != nil || !maps.Equal(recorded, map[string]int{"example": 3, "other": 1}) {
		t.Errorf("Recorded = %v, %v", recorded, err)
	}
	if !slices.ContainsFunc(statements, func(s string) bool { return strings.HasPrefix(s, "CREATE INDEX") }) {
		t.Error("no index among the statements")
	}
}

func TestUnknownDialect(t *testing.T) {
	if _, err := releases[0].DDL("oracle"); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("DDL = %v, want ErrConfig", err)
	}
	if err := tables.Create(t.Context(), nil, "oracle", releases[0]); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Create = %v, want ErrConfig", err)
	}
}

// columns are the types of columns by name, as the driver tells them.
func columns(t *testing.T, db *sql.DB, table string) map[string]string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT * FROM "+table+" AS t WHERE 1 = 0")
	must(t, err)
	defer rows.Close()
	types, err := rows.ColumnTypes()
	must(t, err)
	list := make(map[string]string)
	for _, c := range types {
		list[c.Name()] = c.DatabaseTypeName()
	}
	return list
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
