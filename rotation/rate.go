package rotation

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// Limiter limits the calls of a rotation to key services. A limiter that counts in
// a database or a cache can serve many processes.
type Limiter interface {
	// Wait waits until n calls may be made, or returns the error of ctx.
	Wait(ctx context.Context, n int) error
	// Burst returns the number of calls to ask for at once.
	Burst() int
}

// ThrottledLimiter is a [Limiter] that is told when the key service throttles
// despite it, so that it slows down.
type ThrottledLimiter interface {
	Limiter
	Throttled(ctx context.Context) error
}

// A limiter adapts to its key service: it halves its rate when the service
// throttles, at most once a second because concurrent calls are throttled together,
// and raises it by a tenth after each quiet period, up to the configured rate.
const (
	throttleEvery = time.Second
	quietStretch  = 10 * time.Second
	quietFactor   = 1.1
	slowest       = 64 // the rate is never below the configured one divided by this
)

// NewLimiter returns a limiter of perSecond calls a second, evenly spaced and
// shared by all rotations of this process that use it. It is a [ThrottledLimiter].
// Production shares the quota of the key service: start with a quarter of it.
// NewLimiter panics unless perSecond is above 0.
func NewLimiter(perSecond float64) *RateLimiter {
	l := new(RateLimiter)
	l.SetRate(perSecond)
	return l
}

// RateLimiter is the limiter of one process; see [NewLimiter]. It uses the generic
// cell rate algorithm: each call books the next free time and waits for it.
type RateLimiter struct {
	mu      sync.Mutex
	most    float64   // as configured
	rate    float64   // as adapted to the key service
	changed time.Time // of the last change of rate
	free    time.Time // of the next call
}

// SetRate changes the rate; rotations may be running. It panics unless perSecond is
// above 0.
func (l *RateLimiter) SetRate(perSecond float64) {
	if !(perSecond > 0) {
		panic("rotation: the rate of a limiter must be above 0")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most, l.rate = perSecond, perSecond
}

// Rate returns the current rate in calls a second.
func (l *RateLimiter) Rate() float64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero RateLimiter.
func (l *RateLimiter) usable() error {
	if !(l.Rate() > 0) {
		return fmt.Errorf("rotation: %w: a RateLimiter without a rate: make it with NewLimiter", kmsencrypted.ErrConfig)
	}
	return nil
}

// Burst returns the calls of a twentieth of a second: short enough for an even
// rate, long enough for concurrent calls.
func (l *RateLimiter) Burst() int { return max(1, int(l.Rate()/20)) }

// Wait implements [Limiter]. It returns [kmsencrypted.ErrConfig] for the zero
// RateLimiter, which has no rate.
func (l *RateLimiter) Wait(ctx context.Context, n int) error {
	if err := l.usable(); err != nil {
		return err
	}
	return sleep.For(ctx, l.book(time.Now(), n))
}

// Throttled implements [ThrottledLimiter].
func (l *RateLimiter) Throttled(context.Context) error {
	if err := l.usable(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.changed) >= throttleEvery {
		l.rate, l.changed = max(l.rate/2, l.most/slowest), now
	}
	return nil
}

// book reserves n calls and returns how long to wait for them.
func (l *RateLimiter) book(now time.Time, n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate < l.most && now.Sub(l.changed) >= quietStretch {
		l.rate, l.changed = min(l.rate*quietFactor, l.most), now
	}
	if l.free.Before(now) {
		l.free = now
	}
	wait := l.free.Sub(now)
	l.free = l.free.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	return wait
}
