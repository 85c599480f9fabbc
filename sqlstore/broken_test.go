package sqlstore_test

import (
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// A run that reaches its limit ends the context of its other workers, which are about to
// take shards. No connection of the pool may be left with an open query: in SQLite it would
// read the state of that moment for ever, and write nothing.
func TestLimitLeavesNoQueryOpenSQLite(t *testing.T) {
	t.Parallel()
	const runs, workers = 40, 4
	dir, db := t.TempDir(), sqlite.open(t)
	db.SetMaxIdleConns(workers)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, sqlite, db, old, "id bigint PRIMARY KEY")
	people := make([]*person, runs*workers)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprint("person ", i+1))}
	}
	insert(t, db, old, people)
	db.MustExec("CREATE TABLE turns (n bigint)")
	b := box(t, dir, 2)
	m := model[person](t, b, "people")
	limiter := sqliteLimiter(t, db, m)
	r := rotator(t, sqlite, db, b, m, rotation.Options{BatchSize: 1, Workers: workers, Limit: 1, Calls: limiter})
	for turn := range runs {
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatalf("Run() %d = %v", turn, err)
		}
		db.MustExec("DELETE FROM turns")
		db.MustExec(fmt.Sprint("INSERT INTO turns VALUES (", turn, ")"))
		conns := make([]*sqlx.Conn, workers) // those that are idle
		for i := range conns {
			var err error
			conns[i], err = db.Connx(t.Context())
			must(t, err)
		}
		for _, conn := range conns {
			var n int
			must(t, conn.GetContext(t.Context(), &n, "SELECT n FROM turns"))
			if _, err := conn.ExecContext(t.Context(), "UPDATE turns SET n = n"); err != nil || n != turn {
				t.Fatalf("after %d runs a connection reads %d and writes %v", turn+1, n, err)
			}
			must(t, conn.Close())
		}
	}
}

func sqliteLimiter(t *testing.T, db *sqlx.DB, m *field.Model[person]) *sqlstore.Limiter {
	t.Helper()
	s, err := sqlstore.New(t.Context(), db.DB, field.SQLite, m, sqlstore.Options{})
	must(t, err)
	must(t, s.CreateTables(t.Context()))
	l, err := sqlstore.NewLimiter(t.Context(), db.DB, field.SQLite, "test", 1e6)
	must(t, err)
	return l
}
