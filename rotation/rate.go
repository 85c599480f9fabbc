package rotation

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// Limiter bounds the calls that a rotation makes to key services. One that
// counts in a database or a cache serves many processes.
type Limiter interface {
	// Wait returns when n calls may be made, or with the error of ctx.
	Wait(ctx context.Context, n int) error
	// Burst is how many calls to ask for at a time.
	Burst() int
}

// ThrottledLimiter is a [Limiter] that is told when the key service throttles all
// the same, so that it slows down.
type ThrottledLimiter interface {
	Limiter
	Throttled(ctx context.Context) error
}

// How a limiter follows a key service: it halves its rate, at most once in a
// second because calls side by side are throttled together, and raises it by a
// tenth for each quiet stretch, up to what it was set to.
const (
	throttleEvery = time.Second
	quietStretch  = 10 * time.Second
	quietFactor   = 1.1
	slowest       = 64 // the rate that was set is never divided by more
)

// NewLimiter returns a limiter of perSecond calls a second, evenly spread and
// shared by all rotations of this process that use it. It is a [ThrottledLimiter]. Production shares
// the quota of the key service: a quarter of it is a good beginning. It panics
// unless perSecond is above 0.
func NewLimiter(perSecond float64) *RateLimiter {
	l := new(RateLimiter)
	l.SetRate(perSecond)
	return l
}

// RateLimiter is the limiter of one process, see [NewLimiter]. It uses the generic
// cell rate algorithm: each call books the next free moment and waits for it.
type RateLimiter struct {
	mu      sync.Mutex
	most    float64   // as set
	rate    float64   // as the key service takes it
	changed time.Time // when rate last did
	free    time.Time // when the next call may be made
}

// SetRate changes the rate, also while rotations run. It panics unless
// perSecond is above 0.
func (l *RateLimiter) SetRate(perSecond float64) {
	if !(perSecond > 0) {
		panic("rotation: a limiter with a rate that is not above 0")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most, l.rate = perSecond, perSecond
}

// Rate is the rate in calls a second now.
func (l *RateLimiter) Rate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate
}

// Burst is a twentieth of a second: short enough to be even, long enough for
// calls side by side.
func (l *RateLimiter) Burst() int { return max(1, int(l.Rate()/20)) }

// Wait implements [Limiter]. The zero RateLimiter has no rate: Wait returns
// [kmsencrypted.ErrConfig].
func (l *RateLimiter) Wait(ctx context.Context, n int) error {
	if !(l.Rate() > 0) {
		return fmt.Errorf("rotation: %w: a RateLimiter without a rate: make it with NewLimiter", kmsencrypted.ErrConfig)
	}
	return sleep.For(ctx, l.book(time.Now(), n))
}

// Throttled implements [ThrottledLimiter].
func (l *RateLimiter) Throttled(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.changed) >= throttleEvery {
		l.rate, l.changed = max(l.rate/2, l.most/slowest), now
	}
	return nil
}

// book reserves n calls and says how long to wait for them.
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
