package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// database is a kind of database to test with.
type database struct {
	driver  string
	dialect field.Dialect
	dsn     func(t testing.TB) string
	id      string // type of a text primary key
	same    string // NULL-safe comparison
	rows    int    // of the long tests
}

var (
	postgres = database{"pgx", field.Postgres, dbserver.Postgres, "text", "IS NOT DISTINCT FROM", 4000}
	mariadb  = database{"mysql", field.MySQL, dbserver.MariaDB, "varchar(64)", "<=>", 4000}
	mysql    = database{"mysql", field.MySQL, dbserver.MySQL, "varchar(64)", "<=>", 4000}
	// mysqlLike is what the suites run on where there is no MySQL.
	mysqlLike = database{mysqlish.Driver(), field.MySQL, dbserver.MariaDB, "varchar(64)", "<=>", 4000}
	sqlite    = database{"sqlite", field.SQLite, sqliteDSN, "text", "IS", 4000}
)

// with is the database with a variable set in each session.
func (d database) with(setting string) database {
	dsn := d.dsn
	d.dsn = func(t testing.TB) string { return dsn(t) + "&" + setting }
	return d
}

// Sessions that are unlike others.
const (
	lenient = "sql_mode=''"                // cuts what is too long, unless a statement asks for more
	ofSeven = "auto_increment_increment=7" // of a cluster: ids of neighbours are not neighbours
)

func sqliteDSN(t testing.TB) string {
	return "file:" + filepath.Join(t.TempDir(), "records.sqlite3") + "?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)"
}

func (d database) open(t testing.TB) *sqlx.DB {
	t.Helper()
	return d.connect(t, d.dsn(t))
}

func (d database) connect(t testing.TB, dsn string) *sqlx.DB {
	t.Helper()
	db, err := sqlx.Open(d.driver, dsn)
	must(t, err)
	db.SetMaxOpenConns(16)
	t.Cleanup(func() { db.Close() })
	return db
}

// create makes the table of a model: its primary key as given, every column of
// the model, and more.
func create[R any](t testing.TB, d database, db *sqlx.DB, m *field.Model[R], id string, more ...string) {
	t.Helper()
	columns, err := m.DDL(d.dialect)
	must(t, err)
	_, err = db.Exec("CREATE TABLE " + m.Table() + " (" + strings.Join(slices.Concat([]string{id}, columns, more), ", ") + ")")
	must(t, err)
}

// insert seals rows under their model's Box and inserts them.
func insert[R any](t testing.TB, db *sqlx.DB, m *field.Model[R], rows []*R, more ...string) {
	t.Helper()
	must(t, m.SealNew(t.Context(), rows...))
	must(t, insertSealed(t.Context(), db, m, rows, more...))
}

func insertSealed[R any](ctx context.Context, db *sqlx.DB, m *field.Model[R], rows []*R, more ...string) error {
	columns := slices.Concat(m.Adapter().IDColumns(), m.Adapter().Columns(), more)
	for chunk := range slices.Chunk(rows, 200) {
		_, err := db.NamedExecContext(ctx, "INSERT INTO "+m.Table()+" ("+strings.Join(columns, ", ")+") VALUES (:"+strings.Join(columns, ", :")+")", chunk)
		if err != nil {
			return err
		}
	}
	return nil
}

// keys are providers in files of a folder, so that another process finds them.
func keys(t testing.TB, dir string) (a, b kmsencrypted.Provider) {
	t.Helper()
	providers := make([]kmsencrypted.Provider, 2)
	for i := range providers {
		path := filepath.Join(dir, fmt.Sprintf("key%d.txt", i))
		p, err := local.Open(path)
		if err != nil {
			p, err = local.Create(path)
		}
		must(t, err)
		providers[i] = p
	}
	return providers[0], providers[1]
}

// box has version 1 under one key and versions 2 and 3 under another.
func box(t testing.TB, dir string, current int) *kmsencrypted.Box {
	t.Helper()
	a, b := keys(t, dir)
	box, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{
		1: {Provider: a}, 2: {Provider: b}, 3: {Provider: b},
	}}.Box()
	must(t, err)
	return box
}

func model[R any](t testing.TB, b *kmsencrypted.Box, table string) *field.Model[R] {
	t.Helper()
	m, err := field.NewModel[R](b, field.Config{Table: table})
	must(t, err)
	return m
}

func rotator[R any](t testing.TB, d database, db *sqlx.DB, b *kmsencrypted.Box, m *field.Model[R], o rotation.Options) *rotation.Rotator {
	t.Helper()
	s, err := sqlstore.New(t.Context(), db.DB, d.dialect, m, sqlstore.Options{})
	must(t, err)
	must(t, s.CreateTables(t.Context()))
	o.WritersAreOurs = true
	r, err := rotation.New(b, s, o)
	must(t, err)
	return r
}

// load reads and opens all rows.
func load[R any](t testing.TB, db *sqlx.DB, m *field.Model[R]) []R {
	t.Helper()
	var rows []R
	must(t, db.Unsafe().Select(&rows, "SELECT * FROM "+m.Table()))
	must(t, m.Open(t.Context(), field.Pointers(rows)...))
	return rows
}

// versions counts rows by the version of their key column; NULL is 0.
func versions(t testing.TB, db *sqlx.DB, table string) map[int]int {
	t.Helper()
	var columns []sql.Null[string]
	must(t, db.Select(&columns, "SELECT encrypted_kms_key FROM "+table))
	counts := make(map[int]int)
	for _, c := range columns {
		if c.Valid {
			counts[kmsencrypted.ColumnVersion(c.V)]++
		} else {
			counts[0]++
		}
	}
	return counts
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
