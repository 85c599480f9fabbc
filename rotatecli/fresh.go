package rotatecli

import (
	"context"
	"sync"
	"time"
)

// fresh is a value that is slow to get. get returns at once what is known, and begins to
// load it again if that is due: one load runs at a time, and none if nobody asks. It is
// safe for concurrent use.
type fresh[T any] struct {
	ctx context.Context // of all loads
	// load shows the value, perhaps first an estimate of it.
	load  func(ctx context.Context, show func(T)) error
	every time.Duration // at least from one load to the next
	limit time.Duration // of a load; 0 means none

	mu      sync.Mutex
	value   T
	at      time.Time // when value was shown; zero if it was not yet
	err     error     // of the last load
	loading bool
	stale   bool // expired while loading
	due     time.Time
}

// pause is how many times as long as it took the next load waits, so that looking at a
// database is never much of its work.
const pause = 20

func (f *fresh[T]) get() (value T, at time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.loading && !time.Now().Before(f.due) && f.ctx.Err() == nil {
		f.loading = true
		go f.reload()
	}
	return f.value, f.at, f.err
}

func (f *fresh[T]) reload() {
	ctx, cancel := f.ctx, func() {}
	if f.limit > 0 {
		ctx, cancel = context.WithTimeout(ctx, f.limit)
	}
	defer cancel()
	began := time.Now()
	err := f.load(ctx, f.show)
	f.mu.Lock()
	defer f.mu.Unlock()
	wait := f.every
	if err == nil {
		wait = max(wait, pause*time.Since(began))
	}
	f.err, f.loading, f.due = err, false, time.Now().Add(wait)
	if f.stale && err == nil {
		f.stale, f.due = false, time.Time{}
	}
}

func (f *fresh[T]) show(value T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.value, f.at = value, time.Now()
}

// expire makes the next get load again, also if a load is running: it may have seen the
// world as it was.
func (f *fresh[T]) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.due, f.stale = time.Time{}, f.loading
}
