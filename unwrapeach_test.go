package kmsencrypted_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
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

// Among many columns that a provider in memory opens, some together, each has its own
// result: also those that are damaged, cut, of another record, or twice the same.
func TestUnwrapAllInMemory(t *testing.T) {
	for name, cache := range map[string]*kmsencrypted.CacheConfig{"no cache": nil, "cache": {}} {
		t.Run(name, func(t *testing.T) {
			box := newBox(t, kmsencrypted.Config{Current: 1, Cache: cache, Versions: map[int]kmsencrypted.Version{1: {Provider: testkey.New()}}})
			columns := wrapped(t, box, 100)
			want := make([]error, len(columns))
			for i, c := range columns {
				switch i % 10 {
				case 3:
					columns[i].Column, want[i] = c.Column[:len(c.Column)-4], kmsencrypted.ErrMalformed
				case 4:
					columns[i], want[i] = columns[i-1], kmsencrypted.ErrMalformed
				case 5:
					columns[i].Column, want[i] = columns[i+1].Column, kmsencrypted.ErrDecrypt
				case 9:
					columns[i] = columns[i-1]
				}
			}
			for range 2 {
				for i, r := range box.UnwrapAll(t.Context(), columns) {
					if !errors.Is(r.Err, want[i]) {
						t.Errorf("column %d: %v, want %v", i, r.Err, want[i])
					}
					if _, err := r.Key.Cipher(); want[i] == nil && err != nil {
						t.Errorf("key %d: %v", i, err)
					}
				}
			}
		})
	}
}
