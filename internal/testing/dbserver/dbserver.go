// Package dbserver gives tests a database on a real PostgreSQL, MariaDB or MySQL
// server. Only tests import it.
//
// A server is private to the test binary. The first test that needs it starts it on
// a free port of 127.0.0.1 with a password of its own. It is removed together with
// its files when the test binary ends, however it ends. No call is needed for that,
// so a package that uses it needs no TestMain.
//
//	func TestStorePostgres(t *testing.T) {
//		db, err := sql.Open("pgx", dbserver.Postgres(t))
//		…
//	}
//
// KMSENCRYPTED_POSTGRES_DSN, KMSENCRYPTED_MARIADB_DSN and KMSENCRYPTED_MYSQL_DSN
// name an existing server to use instead, which is the only way on systems other
// than Linux. Its user must be allowed to create databases.
package dbserver

import (
	"errors"
	"os"
	"testing"
)

// The servers of this test binary. They are global because all its tests share them.
var (
	postgres = newPostgres()
	mariadb  = newMariaDB()
	mysql    = newMySQL()
)

// Postgres returns the URL of a new, empty database on a PostgreSQL server, for pgx
// and for the database/sql driver "pgx". The caller must import that driver, which
// also creates the database. The database is dropped when the test ends, so close
// every handle before that.
//
// If no server is installed, the test is skipped; with CI=true it fails.
func Postgres(t testing.TB) string {
	t.Helper()
	return postgres.database(t)
}

// PostgresReplica returns the URLs of a PostgreSQL server of the test's own and of a
// second one that replicates it, through the replication slot "replica". stop ends the
// second one. Existing servers are not used.
func PostgresReplica(t testing.TB) (primary, replica string, stop func()) {
	t.Helper()
	primary, replica, end, err := startReplica()
	if errors.Is(err, errNotInstalled) && os.Getenv("CI") != "true" {
		t.Skip("no PostgreSQL server here: apt-get install postgresql")
	}
	if err != nil {
		t.Fatalf("PostgreSQL with a replica: %v", err)
	}
	return primary, replica, func() {
		t.Helper()
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
}

// MariaDB returns the DSN of a new, empty database on a MariaDB server, for the
// database/sql driver "mysql" of go-sql-driver, which the caller imports. The DSN of
// a private server ends in "?parseTime=true". Everything else is as for [Postgres].
func MariaDB(t testing.TB) string {
	t.Helper()
	return mariadb.database(t)
}

// MySQL is like [MariaDB] for a MySQL server: the program in KMSENCRYPTED_MYSQLD, or
// mysqld on PATH if that is MySQL's own. Few machines have one, so without it the
// test is skipped even with CI=true.
func MySQL(t testing.TB) string {
	t.Helper()
	return mysql.database(t)
}
