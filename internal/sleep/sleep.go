// Package sleep waits for a time or the end of a context.
package sleep

import (
	"context"
	"time"
)

// For waits for d, and returns early with the error of ctx when that ends. It
// does not wait at all where d is not above 0.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
