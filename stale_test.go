package kmsencrypted_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// answers makes the service of a test answer with an error, or nil.
type answers struct{ now atomic.Pointer[error] }

func (a *answers) set(err error) { a.now.Store(&err) }

// patientBox has a cache that outlives outages of an hour, with 10 keys in it.
func patientBox(t *testing.T, stale time.Duration) (*service, *answers, *kmsencrypted.Box, []kmsencrypted.WrappedKey) {
	s, box := cachingBox(t, kmsencrypted.CacheConfig{MaxAge: time.Minute, StaleFor: stale}, kmsencrypted.Version{})
	a := new(answers)
	a.set(nil)
	s.fail = func(int64) error { return *a.now.Load() }
	columns := wrapped(t, box, 10)
	for _, r := range box.UnwrapAll(t.Context(), columns) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	s.wantCalls(t, "filling", 10)
	return s, a, box, columns
}

func unwrapFails(t *testing.T, box *kmsencrypted.Box, c kmsencrypted.WrappedKey, want error) {
	t.Helper()
	if _, err := box.Unwrap(t.Context(), c.Column, c.Binding); !errors.Is(err, want) {
		t.Errorf("Unwrap = %v, want %v", err, want)
	}
}

// While the key service is away, what was read before opens until StaleFor is over.
func TestCacheOutlivesOutage(t *testing.T) {
	t.Parallel()
	for _, away := range []error{kmsencrypted.ErrUnavailable, kmsencrypted.ErrThrottled} {
		synctest.Test(t, func(t *testing.T) {
			s, a, box, columns := patientBox(t, time.Hour)
			a.set(away)
			time.Sleep(time.Minute)
			for range 30 { // the service is asked every 5 seconds
				unwrap(t, box, columns[0])
				time.Sleep(time.Second)
			}
			s.wantCalls(t, "30 seconds of outage", 6)
			for i, r := range box.UnwrapAll(t.Context(), columns) {
				if r.Err != nil {
					t.Errorf("column %d of a page: %v", i, r.Err)
				}
			}
			k := unwrap(t, box, columns[1])
			if _, err := k.Fresh(t.Context()); !errors.Is(err, away) {
				t.Errorf("Fresh = %v, want %v", err, away)
			}
			time.Sleep(time.Hour - time.Minute)
			unwrap(t, box, columns[2])
			time.Sleep(time.Minute)
			unwrapFails(t, box, columns[3], away)
			a.set(nil)
			unwrap(t, box, columns[3])
		})
	}
}

// A refusal is never outlived, not even by an outage that follows.
func TestCacheEndsWithARefusal(t *testing.T) {
	t.Parallel()
	for _, refusal := range []error{kmsencrypted.ErrDenied, kmsencrypted.ErrKeyUnusable, kmsencrypted.ErrDecrypt} {
		synctest.Test(t, func(t *testing.T) {
			_, a, box, columns := patientBox(t, time.Hour)
			a.set(refusal)
			time.Sleep(30 * time.Second)
			unwrap(t, box, columns[0]) // from the cache
			time.Sleep(30 * time.Second)
			unwrapFails(t, box, columns[0], refusal)
			for _, r := range box.UnwrapAll(t.Context(), columns[1:]) {
				if !errors.Is(r.Err, refusal) {
					t.Errorf("a page: %v, want %v", r.Err, refusal)
				}
			}
			a.set(kmsencrypted.ErrUnavailable)
			for _, c := range columns {
				unwrapFails(t, box, c, kmsencrypted.ErrUnavailable)
			}
		})
	}
}

// A service that answers again is asked again, and its answer counts.
func TestCacheAfterOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, a, box, columns := patientBox(t, time.Hour)
		a.set(kmsencrypted.ErrUnavailable)
		time.Sleep(time.Minute)
		unwrap(t, box, columns[0])
		a.set(nil)
		time.Sleep(5 * time.Second)
		s.wantCalls(t, "the outage", 1)
		unwrap(t, box, columns[0])
		time.Sleep(59 * time.Second)
		unwrap(t, box, columns[0])
		s.wantCalls(t, "a minute after it", 1)
	})
}

// Without StaleFor an outage is an error at MaxAge.
func TestCacheWithoutStaleFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a, box, columns := patientBox(t, 0)
		a.set(kmsencrypted.ErrUnavailable)
		time.Sleep(time.Minute)
		unwrapFails(t, box, columns[0], kmsencrypted.ErrUnavailable)
	})
}
