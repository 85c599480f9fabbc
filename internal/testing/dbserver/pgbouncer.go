package dbserver

import (
	"errors"
	"net/url"
	"os"
	"sync"
	"testing"
)

// pgbouncer starts the pooler in front of the PostgreSQL server once, and returns
// its address.
var pgbouncer = sync.OnceValues(func() (address string, err error) {
	dsn, err := postgres.server()
	if err != nil {
		return "", err
	}
	server, err := url.Parse(dsn)
	if err != nil {
		return "", errors.New("the DSN of PostgreSQL is no URL")
	}
	return startPgBouncer(server)
})

// PgBouncer is like [Postgres] for a database that is reached through a PgBouncer in
// transaction mode: each transaction may use another connection to the server.
func PgBouncer(t testing.TB) string {
	t.Helper()
	dsn, err := url.Parse(Postgres(t))
	if err != nil {
		t.Fatal("PgBouncer: the DSN of PostgreSQL is no URL")
	}
	dsn.Host, err = pgbouncer()
	if errors.Is(err, errNotInstalled) && os.Getenv("CI") != "true" {
		t.Skip("no PgBouncer here: apt-get install pgbouncer")
	}
	if err != nil {
		t.Fatalf("PgBouncer: %v (Debian package pgbouncer)", err)
	}
	return dsn.String()
}
