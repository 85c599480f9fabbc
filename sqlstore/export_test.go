package sqlstore

import (
	"context"
	"time"
)

// Book books calls without waiting, and tells the moment by the clock of the
// database in microseconds: the next call may be made when these are over.
func (l *Limiter) Book(ctx context.Context, n int) (at int64, wait time.Duration, err error) {
	return l.reserve(ctx, n)
}

// Refresh reads the rate.
func (l *Limiter) Refresh(ctx context.Context) error { return l.refresh(ctx) }
