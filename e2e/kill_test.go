package e2e

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"

	_ "github.com/jackc/pgx/v5/stdlib"
)

const (
	killedRows = 200_000
	kills      = 20
)

// One process works with goroutines, is killed and started again, 20 times.
func TestKillLocalPostgres(t *testing.T) {
	testKill(t, 1, order{
		Executor: "local", Version: 2, Kind: rotation.Rekey,
		Workers: 4, Shards: 64, Batch: 500, Lease: time.Second,
	})
}

// runLocally is a worker process without a queue.
func runLocally(ctx context.Context, o order) error {
	db, err := sql.Open("pgx", o.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	r, err := rotatorOf(ctx, db, o.Version, testkey.New(), o.options())
	if err != nil {
		return err
	}
	_, err = r.Run(ctx)
	return err
}

// testKill has processes rotate the table, kills one of them with SIGKILL each
// time when a random number of rows is written, and starts another. In the end
// every row was written exactly once and has its old values.
func testKill(t *testing.T, processes int, o order, schedule ...func(testing.TB, *table, *rotation.Rotator)) {
	n := newTable(t, killedRows)
	n.countWrites(t)
	o.DSN = n.dsn
	r, err := rotatorOf(t.Context(), n.db, o.Version, testkey.New(), o.options())
	must(t, err)
	for _, schedule := range schedule {
		schedule(t, n, r)
	}
	began := time.Now()
	workers := make([]*worker, processes)
	for i := range workers {
		workers[i] = start(t, o)
	}
	var killedAt []int64
	var lastKill time.Time
	for i := range int64(kills) {
		// One in each of 20 equal parts, the last of which leaves work to do.
		const part = killedRows / (kills + 1)
		written := waitFor(t, r, i*part+rand.Int64N(part))
		time.Sleep(rand.N(20 * time.Millisecond))
		victim := rand.IntN(processes)
		if workers[victim].kill(t) {
			killedAt = append(killedAt, written)
		}
		lastKill = time.Now()
		workers[victim] = start(t, o)
	}
	for _, w := range workers {
		w.wait(t)
	}
	took, rest := time.Since(began), time.Since(lastKill)
	status, _, err := r.Status(t.Context())
	must(t, err)
	sum := n.tally(t, o.Version)
	counted(t, "%d kills, when the ledger had written %v; done after %.0f s, %.1f s after the last kill", len(killedAt), killedAt, took.Seconds(), rest.Seconds())
	counted(t, "%d rows: %d lost, %d unreadable, %d written twice, %d never, %d at an old version; ledger: %d written, %d conflicts, %d failed",
		sum.rows, sum.lost, sum.unreadable, sum.twice, sum.never, sum.old, status.Written, status.Conflicts, status.Failed)
	if len(killedAt) != kills {
		t.Errorf("%d workers were killed while they worked, want %d", len(killedAt), kills)
	}
	if want := (tally{rows: killedRows}); sum != want {
		t.Errorf("rows: %+v, want %+v", sum, want)
	}
	if want := (rotation.Outcome{Written: killedRows}); status.Outcome != want || status.State != rotation.RunDone {
		t.Errorf("Status() = %+v, want %+v and done", status, want)
	}
	if o.Kind == rotation.Rekey {
		var journal, distinct int64
		must(t, n.db.QueryRowContext(t.Context(), "SELECT count(*), count(DISTINCT record) FROM kms_rotation_journal").Scan(&journal, &distinct))
		if journal != killedRows || distinct != killedRows {
			t.Errorf("the journal has %d entries of %d records, want %d", journal, distinct, killedRows)
		}
	}
}

// waitFor waits until the ledger has so many rows written, and says how many.
func waitFor(t *testing.T, r *rotation.Rotator, rows int64) int64 {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		status, found, err := r.Status(t.Context())
		must(t, err)
		if found && status.Written >= rows {
			return status.Written
		}
	}
	t.Fatalf("%d rows were not written in 2 minutes", rows)
	return 0
}
