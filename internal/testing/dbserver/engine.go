package dbserver

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// errNotInstalled reports that this machine has no server program.
var errNotInstalled = errors.New("not installed")

// engine is one kind of server.
type engine struct {
	name     string // for messages
	debian   string // the package that holds the server
	variable string // environment variable with the DSN of an existing server
	driver   string // name at database/sql
	create   string // statement, with %s for the database
	drop     string // likewise
	optional bool   // skip without a server even in CI
	// inDatabase returns a DSN of the same server with another database.
	inDatabase func(dsn, database string) (string, error)
	// server returns the DSN of the administrator. Unless another server is
	// configured, the first call starts a private one.
	server func() (dsn string, err error)
}

func newPostgres() *engine {
	const variable = "KMSENCRYPTED_POSTGRES_DSN"
	return &engine{
		name:       "PostgreSQL",
		debian:     "postgresql",
		variable:   variable,
		driver:     "pgx",
		create:     "CREATE DATABASE %s",
		drop:       "DROP DATABASE %s WITH (FORCE)",
		inDatabase: postgresDatabase,
		server:     once(variable, startPostgres),
	}
}

func newMariaDB() *engine {
	const variable = "KMSENCRYPTED_MARIADB_DSN"
	return &engine{
		name:       "MariaDB",
		debian:     "mariadb-server-core",
		variable:   variable,
		driver:     "mysql",
		create:     "CREATE DATABASE %s CHARACTER SET utf8mb4",
		drop:       "DROP DATABASE %s",
		inDatabase: mariadbDatabase,
		server:     once(variable, startMariaDB),
	}
}

// mysqldVariable is the environment variable with the path of a MySQL server.
const mysqldVariable = "KMSENCRYPTED_MYSQLD"

func newMySQL() *engine {
	const variable = "KMSENCRYPTED_MYSQL_DSN"
	return &engine{
		name:       "MySQL",
		debian:     "mysql-server-core",
		variable:   variable,
		driver:     "mysql",
		create:     "CREATE DATABASE %s CHARACTER SET utf8mb4",
		drop:       "DROP DATABASE %s",
		optional:   true,
		inDatabase: mariadbDatabase,
		server:     once(variable, startMySQL),
	}
}

func once(variable string, start func() (string, error)) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		if dsn := os.Getenv(variable); dsn != "" {
			return dsn, nil
		}
		return start()
	})
}

func postgresDatabase(dsn, database string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		// Leave out the parse error, which would quote the password.
		return "", errors.New("want a URL such as postgres://user:password@host:5432/postgres")
	}
	u.Path = "/" + database
	return u.String(), nil
}

// mariadbDatabase parses user:password@tcp(host:port)/database?parameters. A
// slash in a parameter is written %2F.
func mariadbDatabase(dsn, database string) (string, error) {
	slash := strings.LastIndexByte(dsn, '/')
	if slash < 0 {
		return "", errors.New("want a DSN such as user:password@tcp(host:3306)/")
	}
	if question := strings.IndexByte(dsn[slash:], '?'); question >= 0 {
		database += dsn[slash+question:]
	}
	return dsn[:slash+1] + database, nil
}

func (e *engine) database(t testing.TB) string {
	t.Helper()
	admin, err := e.server()
	if errors.Is(err, errNotInstalled) && (e.optional || os.Getenv("CI") != "true") {
		t.Skipf("no %s server here: apt-get install %s, or set %s", e.name, e.debian, e.variable)
	}
	if err != nil {
		t.Fatalf("%s: %v (Debian package %s, or set %s)", e.name, err, e.debian, e.variable)
	}
	name := "kmsencrypted_" + strings.ToLower(rand.Text())
	dsn, err := e.inDatabase(admin, name)
	if err != nil {
		t.Fatalf("%s: %v", e.variable, err)
	}
	if err := e.execute(admin, fmt.Sprintf(e.create, name)); err != nil {
		t.Fatalf("%s: %v", e.name, err)
	}
	t.Cleanup(func() {
		if err := e.execute(admin, fmt.Sprintf(e.drop, name)); err != nil {
			t.Errorf("%s: %v", e.name, err)
		}
	})
	return dsn
}

// execute runs one statement on a connection of its own. The time limit is for
// a transaction that a test left open, which can block DROP DATABASE.
func (e *engine) execute(dsn, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	db, err := sql.Open(e.driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}
