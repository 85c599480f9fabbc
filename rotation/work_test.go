package rotation_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// inSlices works until the run is over or there is an error.
func inSlices(t *testing.T, r *rotation.Rotator, d time.Duration) (n int, err error) {
	t.Helper()
	run, err := r.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for next := rotation.NextSlice; next != rotation.NextNothing && err == nil; n++ {
		var slice rotation.Slice
		slice, err = r.Work(t.Context(), run.ID, rotation.AnyShard, d)
		next = slice.Next
	}
	return n, err
}

// A check that holds the run up does not keep a slice beyond its time, and the
// shard is free meanwhile.
func TestWorkHeldUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, began, checks := ofVersion1(10), time.Now(), 0
		tick := func(rotation.Event) { time.Sleep(time.Nanosecond) }
		r := newRotator(t, m, rotation.Options{BatchSize: 1, TargetTime: -1, Observe: tick, Checks: []rotation.Check{
			func(context.Context) (string, error) {
				checks++
				if time.Since(began) < 25*time.Second {
					return "lag", nil
				}
				return "", nil
			},
		}})
		run, err := r.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slice, err := r.Work(t.Context(), run.ID, 0, 10*time.Second)
		if waited := time.Since(began); err != nil || slice.Next != rotation.NextSlice || waited.Round(time.Second) != 10*time.Second || m.owner != "" || m.status.Waiting != "lag" {
			t.Errorf("Work() = %+v, %v after %s, %+v, want a free shard after 10 s", slice, err, waited, m.status)
		}
		time.Sleep(15 * time.Second)
		checks = 0
		if n, err := inSlices(t, r, time.Nanosecond); err != nil || n < 4 || m.status.Written != 10 {
			t.Errorf("%d slices, %v: %+v", n, err, m.status)
		}
		if checks != 1 {
			t.Errorf("%d checks for slices within a second, want 1", checks)
		}
		if !slices.Equal(m.reasons, []string{"lag", ""}) {
			t.Errorf("reasons in the ledger: %q, want one and its end", m.reasons)
		}
	})
}

// Slices together wait no longer than MaxWait.
func TestWorkMaxWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		lag := func(context.Context) (string, error) { return "lag", nil }
		r := newRotator(t, ofVersion1(10), rotation.Options{MaxWait: 25 * time.Second, Checks: []rotation.Check{lag}})
		if n, err := inSlices(t, r, 10*time.Second); !errors.Is(err, rotation.ErrHeldUp) || n != 3 || time.Since(began) != 25*time.Second {
			t.Errorf("%d slices in %s: %v, want ErrHeldUp in the third after 25 s", n, time.Since(began), err)
		}
	})
}

// Failed records of all slices count together.
func TestWorkMaxFailures(t *testing.T) {
	t.Parallel()
	m := ofVersion1(100)
	m.rotate = func(int) error { return kmsencrypted.ErrDecrypt }
	r := newRotator(t, m, rotation.Options{BatchSize: 5, TargetTime: -1, MaxFailures: 12})
	n, err := inSlices(t, r, time.Nanosecond)
	if !errors.Is(err, rotation.ErrTooManyFailures) || m.status.Failed != 15 || n != 3 {
		t.Errorf("%d slices, %v: %+v, want ErrTooManyFailures after 15", n, err, m.status)
	}
	m.rotate = nil
	if _, err := inSlices(t, r, time.Nanosecond); err != nil || m.status.Written != 100 {
		t.Errorf("after the cause is gone: %v, %+v", err, m.status)
	}
}

// A slow limiter gets small batches, since one is finished when the time of its
// slice is over.
func TestWorkSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := ofVersion1(500)
		r := newRotator(t, m, rotation.Options{Calls: rotation.NewLimiter(20)})
		run, err := r.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		slice, err := r.Work(t.Context(), run.ID, rotation.AnyShard, time.Second)
		if took := time.Since(began); err != nil || slice.Written == 0 || took > 11*time.Second {
			t.Errorf("Work() for 1 s at 20 calls a second = %+v, %v in %s, want a few records", slice, err, took)
		}
	})
}
