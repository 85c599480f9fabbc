package kmsriver

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

const schema = "kms_jobs"

var silent = slog.New(slog.DiscardHandler)

// queue is River on PostgreSQL, with the table in the same database.
type queue struct {
	table
	pool *pgxpool.Pool
	// pooled: behind a pooler that forgets who listens.
	pooled bool
}

func newQueue(t *testing.T) queue { return newQueueOn(t, dbserver.Postgres(t), false) }

func newQueueOn(t *testing.T, dsn string, pooled bool) queue {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	must(t, err)
	t.Cleanup(pool.Close)
	db := stdlib.OpenDBFromPool(pool)
	t.Cleanup(func() { db.Close() })
	_, err = pool.Exec(t.Context(), "CREATE SCHEMA "+schema)
	must(t, err)
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: schema, Logger: silent})
	must(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	must(t, err)
	return queue{newTable(t, db, field.Postgres), pool, pooled}
}

// client only inserts.
func (q queue) client(t *testing.T) *river.Client[pgx.Tx] {
	t.Helper()
	client, err := river.NewClient(riverpgxv5.New(q.pool), &river.Config{Schema: schema, Logger: silent})
	must(t, err)
	return client
}

func (q queue) work(t *testing.T, r *rotation.Rotator) {
	t.Helper()
	w, err := NewWorker(r)
	must(t, err)
	config := w.Config(2)
	config.Schema, config.Logger, config.PollOnly = schema, silent, q.pooled
	client, err := river.NewClient(riverpgxv5.New(q.pool), config)
	must(t, err)
	must(t, client.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := client.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func (q queue) jobs(t *testing.T, condition string) (count int) {
	t.Helper()
	must(t, q.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+schema+".river_job WHERE "+condition).Scan(&count))
	return count
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// Two clients share the jobs that four processes ask for at the same time.
func TestRunPostgres(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	r := q.rotator(t, 2, rotation.Options{})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, err := Start(t.Context(), q.client(t), r); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	status, _, err := r.Status(t.Context())
	must(t, err)
	if n := q.jobs(t, "state = 'available' AND max_attempts = 1000 AND queue = 'kms_rotation'"); n != status.Shards {
		t.Errorf("%d jobs, want one for each of %d shards", n, status.Shards)
	}
	q.work(t, r)
	q.work(t, r)
	waitFor(t, "the jobs to end", func() bool { return q.jobs(t, "state <> 'completed'") == 0 })
	status, _, err = r.Status(t.Context())
	must(t, err)
	if want := (rotation.Outcome{Written: rows}); status.Outcome != want || status.State != rotation.RunDone || q.at(t, 2) != rows {
		t.Errorf("Status = %+v, %d rows at the version", status, q.at(t, 2))
	}
	again, err := Start(t.Context(), q.client(t), r)
	must(t, err)
	if again.ID == status.ID {
		t.Error("Start after a run found the same run")
	}
	waitFor(t, "the jobs of the next run to end", func() bool { return q.jobs(t, "state <> 'completed'") == 0 })
}

// Behind PgBouncer in transaction mode, in the modes that docs/rotation-engines.md names.
func TestRunPgBouncer(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_describe"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			q := newQueueOn(t, dbserver.PgBouncer(t)+"&default_query_exec_mode="+mode, true)
			r := q.rotator(t, 2, rotation.Options{})
			q.work(t, r)
			q.work(t, r)
			status, err := Start(t.Context(), q.client(t), r)
			must(t, err)
			waitFor(t, "the jobs to end", func() bool { return q.jobs(t, "state = 'completed'") == status.Shards })
			status, _, err = r.Status(t.Context())
			must(t, err)
			if want := (rotation.Outcome{Written: rows}); status.Outcome != want || status.State != rotation.RunDone || q.at(t, 2) != rows {
				t.Errorf("Status = %+v, %d rows at the version", status, q.at(t, 2))
			}
			if v, err := r.Verify(t.Context(), rotation.VerifyOptions{Note: true}); err != nil || v.Opened != rows || !v.Clean(2) {
				t.Errorf("Verify = %+v, %v", v, err)
			}
		})
	}
}

// All workers were killed at once, so that every job is of a process that is no
// more. River finds them when they are older than a job can be.
func TestRescuePostgres(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	r := q.rotator(t, 2, rotation.Options{})
	_, err := Start(t.Context(), q.client(t), r)
	must(t, err)
	_, err = q.pool.Exec(t.Context(), "UPDATE "+schema+`.river_job SET state = 'running', attempt = 1, attempted_by = '{dead}',
		attempted_at = now() - make_interval(secs => $1)`, (timeout + time.Second).Seconds())
	must(t, err)
	q.work(t, r)
	waitFor(t, "the run", func() bool { return q.at(t, 2) == rows })
	waitFor(t, "the jobs to end", func() bool { return q.jobs(t, "state <> 'completed'") == 0 })
}
