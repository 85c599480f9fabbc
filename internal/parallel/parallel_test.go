package parallel

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ n, limit, together int }{
		{0, 4, 0}, {1, 4, 1}, {3, 4, 3}, {100, 4, 4}, {5, 1, 1}, {5, 0, 1}, {5, -1, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			calls := make([]atomic.Int32, c.n)
			var running, most atomic.Int32
			Do(c.n, c.limit, func(i int) {
				now := running.Add(1)
				for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
				}
				calls[i].Add(1)
				time.Sleep(time.Second)
				running.Add(-1)
			})
			if got := int(most.Load()); got != c.together || running.Load() != 0 {
				t.Errorf("Do(%d, %d): %d at a time and %d still running, want %d and none", c.n, c.limit, got, running.Load(), c.together)
			}
			for i := range calls {
				if n := calls[i].Load(); n != 1 {
					t.Errorf("Do(%d, %d) called f(%d) %d times", c.n, c.limit, i, n)
				}
			}
		})
	}
}

// A panic in a call is one of Do, and ends the others.
func TestDoPanics(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 4} {
		var calls atomic.Int32
		func() {
			defer func() {
				if cause := recover(); cause != "in the third" {
					t.Errorf("limit %d: Do panics with %v", limit, cause)
				}
			}()
			Do(1_000_000, limit, func(i int) {
				calls.Add(1)
				if i == 2 {
					panic("in the third")
				}
			})
		}()
		if n := calls.Load(); n < 3 || n == 1_000_000 {
			t.Errorf("limit %d: %d calls were made", limit, n)
		}
	}
}
