package kmsencrypted

import (
	"context"
	"time"
)

// refreshesAtOnce limits the keys that are unwrapped ahead of time at once.
const refreshesAtOnce = 16

// due reports whether an entry should be unwrapped again ahead of time.
func (c *cache) due(e *cacheEntry, now time.Time) bool {
	return c.config.RefreshAhead > 0 && e.err == nil && !e.asked && !now.Before(e.expires.Add(-c.config.RefreshAhead))
}

// refresh unwraps a key again in the background, until it expires, and reports whether there was room
// for that. What comes of it is remembered like the result of any unwrap: a refusal ends
// the use of the key, an outage does not before it expires.
func (b *Box) refresh(ctx context.Context, u *unwrapping, expires time.Time) (started bool) {
	select {
	case b.cache.refreshes <- struct{}{}:
	default:
		return false
	}
	go func() {
		defer func() { <-b.cache.refreshes }()
		ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), expires)
		defer cancel()
		key, _ := u.again(ctx)
		key.Wipe()
	}()
	return true
}
