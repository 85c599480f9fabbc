package kmsencrypted_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// A caller of UnwrapEach works while the next requests are on their way: 4 rounds
// of a second and the work on the last two keys.
func TestUnwrapEachOverlapsRequestsAndWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t)
		s.latency = time.Second
		box := newBox(t, kmsencrypted.Config{Current: 1, Concurrency: 2, Versions: map[int]kmsencrypted.Version{1: {Provider: s}}})
		columns := wrapped(t, box, 8)
		columns = append(columns, columns[3])
		start := time.Now()
		seen := make(map[int]kmsencrypted.DataKey)
		for i, r := range box.UnwrapEach(t.Context(), columns) {
			if r.Err != nil {
				t.Fatalf("column %d: %v", i, r.Err)
			}
			if _, again := seen[i]; again {
				t.Errorf("column %d comes twice", i)
			}
			seen[i] = r.Key
			time.Sleep(200 * time.Millisecond)
		}
		if took := time.Since(start); took != 4400*time.Millisecond {
			t.Errorf("took %v, want 4.4 s", took)
		}
		if len(seen) != len(columns) || s.calls.Load() != 8 || s.most.Load() != 2 {
			t.Errorf("%d results by %d calls, %d at once; want 9, 8 and 2", len(seen), s.calls.Load(), s.most.Load())
		}
		seen[3].Wipe()
		if _, err := seen[8].Raw(); err != nil {
			t.Errorf("an equal column's key after the other one was wiped: %v", err)
		}
	})
}

// A loop that ends early ends the requests: synctest fails if a goroutine stays.
func TestUnwrapEachThatEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t)
		s.latency = time.Hour
		box := newBox(t, kmsencrypted.Config{Current: 1, Concurrency: 2, Versions: map[int]kmsencrypted.Version{1: {Provider: s}}})
		columns := wrapped(t, box, 20)
		columns[5].Column = "v9:"
		for i, r := range box.UnwrapEach(t.Context(), columns) {
			if i != 5 || r.Err == nil {
				t.Errorf("column %d comes first, with %v; want what needs no request", i, r.Err)
			}
			start := time.Now()
			defer func() {
				if took := time.Since(start); took != 0 {
					t.Errorf("it took %v to leave the loop", took)
				}
			}()
			break
		}
		if n := s.calls.Load(); n > 2 {
			t.Errorf("%d calls, want at most the 2 that had begun", n)
		}
	})
}
