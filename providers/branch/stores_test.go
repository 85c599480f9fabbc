package branch_test

import (
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// databases are the kinds of SQL databases with key stores.
var databases = []struct {
	name    string
	dialect field.Dialect
	driver  string
	dsn     func(testing.TB) string
}{
	{"SQLite", field.SQLite, "sqlite", func(t testing.TB) string {
		return "file:" + filepath.Join(t.TempDir(), "keys.sqlite3") + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)"
	}},
	{"Postgres", field.Postgres, "pgx", dbserver.Postgres},
	{"MariaDB", field.MySQL, "mysql", dbserver.MariaDB},
}

// openDB returns a new database with an empty key store.
func openDB(t testing.TB, driver, dsn string, d field.Dialect, limits branch.Limits) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := branch.CreateTables(t.Context(), db, d, limits); err != nil {
		t.Fatal(err)
	}
	return db
}

func sqlStore(t testing.TB, db *sql.DB, d field.Dialect) branch.Store {
	t.Helper()
	store, err := branch.NewSQL(db, d)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// eachStore runs a test with a new key store of each kind.
func eachStore(t *testing.T, limits branch.Limits, run func(t *testing.T, store branch.Store)) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			run(t, sqlStore(t, openDB(t, d.driver, d.dsn(t), d.dialect, limits), d.dialect))
		})
	}
	t.Run("Dir", func(t *testing.T) {
		t.Parallel()
		run(t, newDir(t, limits))
	})
}

func newDir(t testing.TB, limits branch.Limits) branch.Store {
	t.Helper()
	store, err := branch.CreateDir(filepath.Join(t.TempDir(), "keys"), limits)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// eachStoreOf runs a test with a function that makes key stores, for each kind.
func eachStoreOf(t *testing.T, run func(t *testing.T, newStore func(t *testing.T) branch.Store)) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			run(t, func(t *testing.T) branch.Store {
				return sqlStore(t, openDB(t, d.driver, d.dsn(t), d.dialect, branch.Limits{}), d.dialect)
			})
		})
	}
	t.Run("Dir", func(t *testing.T) {
		run(t, func(t *testing.T) branch.Store { return newDir(t, branch.Limits{}) })
	})
}

// Negative limits would let a key be used after its erasure, or never.
func TestNegativeLimits(t *testing.T) {
	t.Parallel()
	for _, limits := range []branch.Limits{{MaxAge: -1}, {StaleFor: -time.Second}} {
		path := filepath.Join(t.TempDir(), "keys")
		if _, err := branch.CreateDir(path, limits); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("CreateDir with %+v = %v, want ErrConfig", limits, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("CreateDir with %+v left %v", limits, err)
		}
		db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "keys.sqlite3"))
		if err != nil {
			t.Fatal(err)
		}
		if err := branch.CreateTables(t.Context(), db, field.SQLite, limits); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("CreateTables with %+v = %v, want ErrConfig", limits, err)
		}
		db.Close()
	}
}
