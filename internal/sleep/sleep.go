// Package sleep waits for a time or for the end of a context.
package sleep

import (
	"context"
	"time"
)

// For waits for d. If ctx ends first, it returns its error. It does not wait if
// d is 0 or less.
func For(ctx context.Context, d time.Duration) error { return Until(ctx, nil, d) }

// Until is like For, and also ends when a channel is closed.
func Until(ctx context.Context, closed <-chan struct{}, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-closed:
		return nil
	case <-timer.C:
		return nil
	}
}
