package kmsencrypted

import (
	"context"
	"sync"
	"time"
)

// Limiter bounds the calls that a rotation makes to key services. One that
// counts in a database or a cache serves many processes.
type Limiter interface {
	// Wait returns when n calls may be made, or with the error of ctx.
	Wait(ctx context.Context, n int) error
	// Burst is how many calls to ask for at a time.
	Burst() int
}

// NewLimiter allows so many calls a second, evenly spread, to all rotations of
// this process that are given it. Production shares the quota of the key
// service: a quarter of it is a good beginning. It panics unless perSecond is
// above 0.
func NewLimiter(perSecond float64) Limiter {
	if !(perSecond > 0) {
		panic("kmsencrypted: NewLimiter with a rate that is not above 0")
	}
	return &rateLimiter{perSecond: perSecond}
}

// rateLimiter is the generic cell rate algorithm: each call books the next free
// moment and waits for it.
type rateLimiter struct {
	perSecond float64

	mu   sync.Mutex
	free time.Time // when the next call may be made
}

// Burst is a twentieth of a second: short enough to be even, long enough for
// calls side by side.
func (l *rateLimiter) Burst() int { return max(1, int(l.perSecond/20)) }

func (l *rateLimiter) Wait(ctx context.Context, n int) error {
	return sleep(ctx, l.book(time.Now(), n))
}

// book reserves n calls and says how long to wait for them.
func (l *rateLimiter) book(now time.Time, n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(now) {
		l.free = now
	}
	wait := l.free.Sub(now)
	l.free = l.free.Add(time.Duration(float64(n) / l.perSecond * float64(time.Second)))
	return wait
}

// sleep waits, and returns early with the error of ctx when that ends.
func sleep(ctx context.Context, d time.Duration) error {
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
