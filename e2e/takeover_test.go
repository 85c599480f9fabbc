package e2e

import (
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// How long the shards of a killed worker rest, with the leases and the queue as
// they are by default. The promise is a minute; nearly all of it is waiting, so
// the tests wait concurrently.
func TestTakeoverPostgres(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		executor string
		shards   int
		survivor bool
		within   time.Duration
	}{
		{"local", "local", 8, true, time.Minute},
		{"river", "river", 8, true, time.Minute},
		// Every job is a dead worker's. River finds them when they are 20 s old, looks
		// each 30 s, and puts them back within 5 s; a busy machine may be late.
		{"river, all killed", "river", 4, false, 75 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			testTakeover(t, test.executor, test.shards, test.survivor, test.within)
		})
	}
}

// testTakeover kills a process that holds four shards.
func testTakeover(t *testing.T, executor string, shards int, survivor bool, within time.Duration) {
	const rows = 20_000
	n := newTable(t, rows)
	n.countWrites(t)
	// Slow enough to be met at work.
	n.exec(t, "CREATE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END' LANGUAGE plpgsql")
	n.exec(t, "CREATE TRIGGER slow AFTER UPDATE ON notes FOR EACH STATEMENT EXECUTE FUNCTION slow()")
	o := order{DSN: n.dsn, Executor: executor, Version: 2, Workers: 4, Shards: shards, Batch: 50}
	r, err := rotatorOf(t.Context(), n.db, o.Version, testkey.New(), o.options())
	must(t, err)
	if executor == "river" {
		startInRiver(t, n, r)
	}
	count := func(query string) (count int) {
		must(t, n.db.QueryRowContext(t.Context(), query).Scan(&count))
		return count
	}
	const held = "SELECT count(*) FROM kms_rotation_shards WHERE owner <> '' AND written > 0"
	victim := start(t, o)
	waitUntil(t, "a worker holds its shards", func() bool { return count(held) == o.Workers })
	n.exec(t, "CREATE TABLE owners AS SELECT DISTINCT owner FROM kms_rotation_shards WHERE owner <> ''")
	other := o
	other.Workers = 2
	var alive *worker
	if survivor {
		alive = start(t, other)
		waitUntil(t, "another holds some too", func() bool { return count(held) == o.Workers+other.Workers })
	}
	if !victim.kill(t) {
		t.Fatal("the worker was done before it was killed")
	}
	killed := time.Now()
	n.exec(t, "CREATE TABLE orphans AS SELECT shard, written FROM kms_rotation_shards WHERE owner IN (SELECT owner FROM owners)")
	n.exec(t, "DROP TRIGGER slow ON notes")
	if !survivor {
		alive = start(t, other)
	}
	const resting = "SELECT count(*) FROM kms_rotation_shards AS s JOIN orphans AS o USING (shard) WHERE s.written = o.written"
	waitUntil(t, "its shards go on", func() bool { return count(resting) == 0 })
	resumed := time.Since(killed)
	alive.wait(t)
	done := time.Since(killed)
	status, _, err := r.Status(t.Context())
	must(t, err)
	sum, orphans := n.tally(t, o.Version), count("SELECT count(*) FROM orphans")
	counted(t, "%d shards of a killed worker went on %.1f s later, all was done after %.1f s; %d rows: %d lost, %d unreadable, %d written twice",
		orphans, resumed.Seconds(), done.Seconds(), sum.rows, sum.lost, sum.unreadable, sum.twice)
	if orphans == 0 {
		t.Error("the worker held no shard when it was killed")
	}
	if want := (tally{rows: rows}); sum != want || status.Outcome != (rotation.Outcome{Written: rows}) {
		t.Errorf("rows: %+v, Status() = %+v, want all written once", sum, status)
	}
	if done > within {
		t.Errorf("done %s after the kill, want at most %s", done, within)
	}
}

func waitUntil(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 2 minutes until %s", what)
		}
	}
}
