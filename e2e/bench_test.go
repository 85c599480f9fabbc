package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// What a job queue costs beside goroutines: the same rotation with four workers
// each, in turns, so that a busy machine is as busy for both. The promise is 0.6
// of local.
func BenchmarkRiverPostgres(b *testing.B) {
	const rows = 100_000
	n := newTable(b, rows)
	var took [2]time.Duration
	for b.Loop() {
		took[0] += n.bench(b, 2, func(r *rotation.Rotator) error {
			_, err := r.Run(b.Context())
			return err
		})
		took[1] += n.bench(b, 1, func(r *rotation.Rotator) error {
			startInRiver(b, n, r)
			return workInRiver(b.Context(), n.pool, r, 4)
		})
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rows*float64(b.N)/took[0].Seconds(), "local-rows/s")
	b.ReportMetric(rows*float64(b.N)/took[1].Seconds(), "river-rows/s")
	b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "of-local")
}

// bench rewraps all rows to the version and says how long that took.
func (n *table) bench(b *testing.B, version int, rotate func(*rotation.Rotator) error) time.Duration {
	b.Helper()
	n.exec(b, "VACUUM ANALYZE notes")
	r, err := rotatorOf(b.Context(), n.db, version, testkey.New(), rotation.Options{Workers: 4})
	must(b, err)
	began := time.Now()
	must(b, rotate(r))
	took := time.Since(began)
	if status, _, err := r.Status(b.Context()); err != nil || status.Written != n.rows || status.State != rotation.RunDone {
		b.Fatalf("Status() = %+v, %v", status, err)
	}
	return took
}

// How long a batch is still written after somebody paused the run. The promise is
// 2 s.
func BenchmarkPausePostgres(b *testing.B) {
	const rows = 100_000
	for _, executor := range []string{"local", "river"} {
		b.Run(executor, func(b *testing.B) {
			n := newTable(b, rows)
			var longest time.Duration
			for b.Loop() {
				longest = max(longest, n.pause(b, executor))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(longest.Seconds(), "s-to-last-write")
		})
	}
}

// pause starts a run, pauses it and says how long after that the ledger moved.
func (n *table) pause(b *testing.B, executor string) time.Duration {
	b.Helper()
	target := 2
	if n.tally(b, 2).old == 0 {
		target = 1
	}
	r, err := rotatorOf(b.Context(), n.db, target, testkey.New(), rotation.Options{Workers: 4})
	must(b, err)
	if executor == "river" {
		startInRiver(b, n, r)
	}
	ended := make(chan error, 1)
	go func() {
		if executor == "river" {
			ended <- workInRiver(b.Context(), n.pool, r, 4)
			return
		}
		_, err := r.Run(b.Context())
		ended <- err
	}()
	status := func() rotation.Status {
		status, _, err := r.Status(b.Context())
		must(b, err)
		return status
	}
	written := func() int64 { return status().Written }
	// That of the run before may be found first.
	waitUntil(b, "rows are written", func() bool { return status().State == rotation.RunActive && written() > n.rows/10 })
	began := time.Now()
	must(b, r.Pause(b.Context()))
	last := time.Since(began) // a batch may have been written until here
	for count := written(); time.Since(began) < 3*time.Second; time.Sleep(2 * time.Millisecond) {
		if now := written(); now != count {
			count, last = now, time.Since(began)
		}
	}
	if n.tally(b, target).old == 0 {
		b.Fatal("the run was done before it was paused")
	}
	must(b, r.Resume(b.Context()))
	if executor == "local" {
		if err := <-ended; !errors.Is(err, rotation.ErrPaused) {
			b.Fatalf("Run = %v, want ErrPaused", err)
		}
		_, err := r.Run(b.Context())
		must(b, err)
		return last
	}
	must(b, <-ended)
	return last
}
