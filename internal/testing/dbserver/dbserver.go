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
	"database/sql"
	"errors"
	"net/url"
	"os"
	"testing"
	"time"
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

// PostgresFailover returns the URL of a PostgreSQL server of the test's own and its
// replica: a connection goes to the one that takes writes. failover cuts the replica off,
// calls meanwhile, ends the first server as a crash does, and promotes the replica. What
// was committed meanwhile is lost. Existing servers are not used.
func PostgresFailover(t testing.TB) (dsn string, failover func(meanwhile func())) {
	t.Helper()
	primary, replica, _ := PostgresReplica(t)
	first, err := url.Parse(primary)
	if err != nil {
		t.Fatal("the DSN of PostgreSQL is no URL")
	}
	second, err := url.Parse(replica)
	if err != nil {
		t.Fatal("the DSN of PostgreSQL is no URL")
	}
	first.Host += "," + second.Host
	first.RawQuery += "&target_session_attrs=read-write"
	return first.String(), func(meanwhile func()) {
		t.Helper()
		if err := failOver(primary, replica, meanwhile); err != nil {
			t.Fatalf("fail over: %v", err)
		}
	}
}

// failOver makes a replica the primary. Its last step waits until it takes writes.
func failOver(primary, replica string, meanwhile func()) error {
	old, err := sql.Open("pgx", primary)
	if err != nil {
		return err
	}
	defer old.Close()
	db, err := sql.Open("pgx", replica)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, statement := range []string{"ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"} {
		if _, err := db.Exec(statement); err != nil {
			return err
		}
	}
	for following := true; following; time.Sleep(5 * time.Millisecond) {
		if err := db.QueryRow("SELECT count(*) > 0 FROM pg_stat_wal_receiver").Scan(&following); err != nil {
			return err
		}
	}
	meanwhile()
	var folder string
	if err := old.QueryRow("SHOW data_directory").Scan(&folder); err != nil {
		return err
	}
	if err := crash(folder); err != nil {
		return err
	}
	_, err = db.Exec("SELECT pg_promote(true, 60)")
	return err
}

// MariaDB returns the DSN of a new, empty database on a MariaDB server, for the
// database/sql driver "mysql" of go-sql-driver, which the caller imports. The DSN of
// a private server ends in "?parseTime=true". Everything else is as for [Postgres].
func MariaDB(t testing.TB) string {
	t.Helper()
	return mariadb.database(t)
}

// MariaDBReplica returns the DSNs, without a database, of a MariaDB server of the test's
// own and of a second one that replicates it. Existing servers are not used.
func MariaDBReplica(t testing.TB) (primary, replica string) {
	t.Helper()
	primary, replica, err := startMariaDBReplica()
	if errors.Is(err, errNotInstalled) && os.Getenv("CI") != "true" {
		t.Skip("no MariaDB server here: apt-get install mariadb-server-core")
	}
	if err != nil {
		t.Fatalf("MariaDB with a replica: %v", err)
	}
	return primary, replica
}

// MySQL is like [MariaDB] for a MySQL server: the program in KMSENCRYPTED_MYSQLD, or
// mysqld on PATH if that is MySQL's own. Few machines have one, so without it the
// test is skipped even with CI=true.
func MySQL(t testing.TB) string {
	t.Helper()
	return mysql.database(t)
}
