package filelock_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/filelock"
)

// One holds the lock at a time, and nobody waits longer than its context.
func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	const workers, rounds = 8, 25
	var all sync.WaitGroup
	inside, most, entered := 0, 0, 0
	for range workers {
		all.Go(func() {
			for range rounds {
				unlock, err := filelock.Lock(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				inside++ // the race detector sees it if two are here
				entered++
				most = max(most, inside)
				inside--
				unlock()
			}
		})
	}
	all.Wait()
	if most != 1 || entered != workers*rounds {
		t.Errorf("%d held the lock at once, and %d in all, want 1 and %d", most, entered, workers*rounds)
	}
	unlock, err := filelock.Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := filelock.Lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock of what is held = %v, want DeadlineExceeded", err)
	}
}
