package kmsbun_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	kmsbun "github.com/kmsencrypted/kmsencrypted/bun"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// secret is a part of all that these tests encrypt.
const secret = "topsecret.example"

// server is a database behind a canary.
type server struct {
	raw     *sql.DB
	dialect field.Dialect
	autoID  string
}

// onServers runs a test on a database of each kind.
func onServers(t *testing.T, test func(t *testing.T, s server)) {
	t.Helper()
	for _, s := range []struct {
		name, driver, autoID string
		dialect              field.Dialect
		open                 func(testing.TB) string
	}{
		{"SQLite", "sqlite", "INTEGER PRIMARY KEY", field.SQLite, func(t testing.TB) string { return t.TempDir() + "/test.db" }},
		{"Postgres", "pgx", "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", field.Postgres, dbserver.Postgres},
		{"MariaDB", "mysql", "bigint AUTO_INCREMENT PRIMARY KEY", field.MySQL, dbserver.MariaDB},
		{"MariaDBLenient", "mysql", "bigint AUTO_INCREMENT PRIMARY KEY", field.MySQL, func(t testing.TB) string { return dbserver.MariaDB(t) + "&sql_mode=%27%27" }},
		{"MySQLishCluster", mysqlish.Driver(), "bigint AUTO_INCREMENT PRIMARY KEY", field.MySQL, func(t testing.TB) string { return dbserver.MariaDB(t) + "&auto_increment_increment=7" }},
		{"MySQL", "mysql", "bigint AUTO_INCREMENT PRIMARY KEY", field.MySQL, dbserver.MySQL},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			test(t, server{kmstest.Canary(t, s.driver, s.open(t), secret), s.dialect, s.autoID})
		})
	}
}

// store is a table of records R, whose plain columns are given, and a model of it.
type store[R any] struct {
	server
	db *bun.DB
	m  *field.Model[R]
}

// storeOf makes the table.
func storeOf[R any](t *testing.T, s server, table string, c kmsencrypted.Config, plain ...string) store[R] {
	t.Helper()
	m := modelOf[R](t, table, c)
	columns, err := m.DDL(s.dialect)
	must(t, err)
	_, err = s.raw.Exec("CREATE TABLE " + table + " (" + strings.Join(slices.Concat(plain, columns), ", ") + ")")
	must(t, err)
	db := bun.NewDB(s.raw, dialectFor(s.dialect))
	must(t, kmsbun.Use(db, m))
	return store[R]{s, db, m}
}

func modelOf[R any](t *testing.T, table string, c kmsencrypted.Config) *field.Model[R] {
	t.Helper()
	box, err := c.Box()
	must(t, err)
	indexKey, err := blindindex.NewMasterKey([]byte(strings.Repeat("k", blindindex.KeySize)))
	must(t, err)
	m, err := field.NewModel[R](box, field.Config{Table: table, IndexKey: indexKey})
	must(t, err)
	return m
}

// oneKey is a recipe with a key in memory.
func oneKey(change ...func(*kmsencrypted.Version)) kmsencrypted.Config {
	v := kmsencrypted.Version{Provider: kmstest.Memory()}
	for _, f := range change {
		f(&v)
	}
	return kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: v}}
}

func mail(n int) string { return fmt.Sprintf("mail%d@%s", n, secret) }

func (s store[R]) count(t *testing.T) int {
	t.Helper()
	n, err := s.db.NewSelect().Model((*R)(nil)).Count(t.Context())
	must(t, err)
	return int(n) // an int64 in later releases
}
