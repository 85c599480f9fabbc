package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// connecting counts the connections that a pool opens.
type connecting struct {
	driver.Connector
	opened *atomic.Int64
}

func (c connecting) Connect(ctx context.Context) (driver.Conn, error) {
	c.opened.Add(1)
	return c.Connector.Connect(ctx)
}

// A run keeps the connections of its batches, although the pool keeps two, and gives them
// back in the end. Of a pool with a limit it takes what there is.
func TestSessionsPostgres(t *testing.T) {
	t.Parallel()
	const n, workers = 4000, 4
	for _, most := range []int{0, 2} {
		t.Run(fmt.Sprintf("most=%d", most), func(t *testing.T) {
			t.Parallel()
			dir, dsn := t.TempDir(), postgres.dsn(t)
			config, err := pgx.ParseConfig(dsn)
			must(t, err)
			var opened atomic.Int64
			pool := sql.OpenDB(connecting{stdlib.GetConnector(*config), &opened})
			t.Cleanup(func() { pool.Close() })
			pool.SetMaxOpenConns(most)
			db := sqlx.NewDb(pool, "pgx")
			old := model[person](t, box(t, dir, 1), "people")
			create(t, postgres, db, old, "id bigint PRIMARY KEY")
			people := make([]*person, n)
			for i := range people {
				people[i] = &person{ID: int64(i + 1), Email: field.New("somebody@example.org")}
			}
			insert(t, db, old, people)
			b := box(t, dir, 2)
			r := rotator(t, postgres, db, b, model[person](t, b, "people"), rotation.Options{Workers: workers, Shards: 16, BatchSize: 50})
			before := opened.Load()
			result, err := r.Run(t.Context())
			must(t, err)
			if result.Written != n {
				t.Errorf("Run() = %+v, want %d written", result, n)
			}
			// Each worker reads, writes, and asks the ledger.
			if got := opened.Load() - before; most == 0 && got > 4*workers {
				t.Errorf("the run opened %d connections, want at most %d", got, 4*workers)
			}
			const idle = 2 // of every pool
			if open := pool.Stats().OpenConnections; open > idle {
				t.Errorf("%d connections are open after the run, want at most %d", open, idle)
			}
		})
	}
}

// database/sql does not know the limit of a pgxpool.Pool. Two runs and the application
// share few connections, and none waits for one that nobody uses.
func TestPoolOfFewPostgres(t *testing.T) {
	t.Parallel()
	const n = 300
	for _, most := range []int32{1, 2, 4} {
		t.Run(fmt.Sprintf("most=%d", most), func(t *testing.T) {
			t.Parallel()
			dir, dsn := t.TempDir(), postgres.dsn(t)
			config, err := pgxpool.ParseConfig(dsn)
			must(t, err)
			config.MaxConns = most
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			must(t, err)
			t.Cleanup(pool.Close)
			db := sqlx.NewDb(stdlib.OpenDBFromPool(pool), "pgx")
			t.Cleanup(func() { db.Close() })
			b := box(t, dir, 2)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var runs sync.WaitGroup
			for _, table := range []string{"people", "members"} {
				old := model[person](t, box(t, dir, 1), table)
				create(t, postgres, db, old, "id bigint PRIMARY KEY")
				people := make([]*person, n)
				for i := range people {
					people[i] = &person{ID: int64(i + 1), Email: field.New("somebody@example.org")}
				}
				insert(t, db, old, people)
				r := rotator(t, postgres, db, b, model[person](t, b, table), rotation.Options{Workers: 4, Shards: 8, BatchSize: 10})
				runs.Go(func() {
					if result, err := r.Run(ctx); err != nil || result.Written != n {
						t.Errorf("Run() of %s = %+v, %v, want %d written", table, result, err, n)
					}
				})
			}
			done := make(chan struct{})
			go func() { runs.Wait(); close(done) }()
			for over := false; !over && ctx.Err() == nil; {
				if _, err := pool.Exec(ctx, "SELECT 1"); err != nil {
					t.Error("the application: ", err)
				}
				select {
				case <-done:
					over = true
				case <-time.After(time.Millisecond):
				}
			}
			<-done
		})
	}
}

// Kept connections that the server has ended are replaced, all after the first error.
func TestSessionEndedPostgres(t *testing.T) {
	t.Parallel()
	dir, dsn := t.TempDir(), postgres.dsn(t)
	db, other := postgres.connect(t, dsn), postgres.connect(t, dsn)
	m := model[person](t, box(t, dir, 1), "people")
	create(t, postgres, db, m, "id bigint PRIMARY KEY")
	insert(t, db, m, []*person{{ID: 1, Email: field.New("somebody@example.org")}})
	s, err := sqlstore.New(t.Context(), db.DB, field.Postgres, m, sqlstore.Options{})
	must(t, err)
	defer s.Hold()()
	read := func() error {
		batch, err := s.Read(t.Context(), rotation.Selection{Limit: 10, Kind: rotation.Rewrap, Target: 2})
		if err == nil && batch.Len() != 1 {
			t.Fatalf("%d records read, want 1", batch.Len())
		}
		return err
	}
	for range 3 {
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() { _ = read() })
		}
		readers.Wait()
		if err := read(); err != nil {
			t.Fatalf("Read() after an error = %v", err)
		}
		_, err = other.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		must(t, err)
		time.Sleep(100 * time.Millisecond) // until the end has arrived here
		if err := read(); err != nil && !errors.Is(err, rotation.ErrDatabaseAway) {
			t.Fatal(err)
		}
	}
}

// A rewrap reads keys alone: a record of any size takes part in a batch of the usual size.
// What opens records reads all of them.
func TestRewrapReadsKeysPostgres(t *testing.T) {
	t.Parallel()
	const n = 200
	dir, db := t.TempDir(), postgres.open(t)
	m := model[person](t, box(t, dir, 1), "people")
	create(t, postgres, db, m, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(strings.Repeat("x", 60_000))}
	}
	insert(t, db, m, people)
	s, err := sqlstore.New(t.Context(), db.DB, field.Postgres, m, sqlstore.Options{})
	must(t, err)
	read := func(sel rotation.Selection) int {
		t.Helper()
		sel.Limit, sel.Target = n, 2
		var batch rotation.Batch
		for range 2 { // the first one learns the size
			batch, err = s.Read(t.Context(), sel)
			must(t, err)
		}
		return batch.Len()
	}
	if got := read(rotation.Selection{Kind: rotation.Rewrap, RotateOnly: true}); got != n {
		t.Errorf("a batch of a rewrap has %d records, want %d", got, n)
	}
	for _, sel := range []rotation.Selection{{Kind: rotation.Rewrap}, {Kind: rotation.Rekey, RotateOnly: true}} {
		if got := read(sel); got > n/4 {
			t.Errorf("a batch of %+v has %d records, want few", sel, got)
		}
	}
}
