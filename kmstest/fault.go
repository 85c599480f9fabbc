package kmstest

import (
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// Fault is a way in which a key service fails. Its share, between 0 and 1, is
// the share of calls that it affects. These look random but are the same in
// every run. The zero value does nothing.
type Fault struct {
	ops   []kmsencrypted.Op // empty: all
	from  int               // the first call affected, counted from 1
	lasts time.Duration     // since the first call; 0 means for ever
	share float64

	delay  time.Duration
	hang   bool
	ask    func(ctx context.Context) error
	err    error
	tamper func(answer []byte)
}

// On restricts a fault to some operations, and counts only their calls.
func (f Fault) On(ops ...kmsencrypted.Op) Fault {
	f.ops = ops
	return f
}

// Fail makes calls fail with err before they reach the key service.
func Fail(err error, share float64) Fault { return Fault{share: share, err: err} }

// Throttle makes calls fail with [kmsencrypted.ErrThrottled].
func Throttle(share float64) Fault { return Fail(kmsencrypted.ErrThrottled, share) }

// Unavailable makes calls fail with [kmsencrypted.ErrUnavailable].
func Unavailable(share float64) Fault { return Fail(kmsencrypted.ErrUnavailable, share) }

// Outage makes all calls fail with [kmsencrypted.ErrUnavailable] for the given
// time from the first call on.
func Outage(lasts time.Duration) Fault {
	return Fault{share: 1, err: kmsencrypted.ErrUnavailable, lasts: lasts}
}

// Revoke makes all calls from the n-th on, counted from 1, fail with
// [kmsencrypted.ErrDenied], as if a permission were taken away meanwhile.
func Revoke(n int) Fault { return Fault{share: 1, err: kmsencrypted.ErrDenied, from: n} }

// Slow makes calls take longer.
func Slow(delay time.Duration, share float64) Fault { return Fault{share: share, delay: delay} }

// Hang blocks calls until their context ends.
func Hang(share float64) Fault { return Fault{share: share, hang: true} }

// Before calls a function before each request: to wait, to count, to change
// something meanwhile. If it returns an error, the request fails with it and does
// not reach the key service. The function is called by many goroutines at once.
func Before(f func(ctx context.Context) error) Fault { return Fault{share: 1, ask: f} }

// WrongKey answers unwraps with other bytes, as many as the right ones.
func WrongKey(share float64) Fault {
	return Fault{share: share, tamper: func(answer []byte) { rand.Read(answer) }}.On(kmsencrypted.OpUnwrap)
}

// Corrupt flips a bit in the middle of the answer: of the plaintext for an
// unwrap, otherwise of the ciphertext.
func Corrupt(share float64) Fault {
	return Fault{share: share, tamper: func(answer []byte) {
		if len(answer) > 0 {
			answer[len(answer)/2] ^= 1
		}
	}}
}

// before runs before the request.
func (f Fault) before(ctx context.Context) error {
	err := sleep.For(ctx, f.delay)
	if f.hang {
		<-ctx.Done()
		err = ctx.Err()
	}
	if err == nil && f.ask != nil {
		err = f.ask(ctx)
	}
	return cmp.Or(err, f.err)
}

// after changes an answer.
func (f Fault) after(answer []byte) {
	if f.tamper != nil {
		f.tamper(answer)
	}
}

// armed is a fault of a service, with the number of calls it has seen.
type armed struct {
	Fault
	calls int
	since time.Time
}

// strikes reports whether the fault affects the next call.
func (a *armed) strikes(op kmsencrypted.Op) bool {
	if len(a.ops) > 0 && !slices.Contains(a.ops, op) {
		return false
	}
	a.calls++
	if a.calls == 1 {
		a.since = time.Now()
	}
	switch {
	case a.calls < a.from:
		return false
	case a.lasts > 0 && time.Since(a.since) >= a.lasts:
		return false
	}
	return dice(a.calls) < a.share
}

// dice returns a number in [0, 1) that depends only on n: one step of
// SplitMix64.
func dice(n int) float64 {
	z := uint64(n) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>11) / (1 << 53)
}
