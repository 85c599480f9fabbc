// Package guard keeps a program and its key service from hurting each other. It
// goes around any provider:
//
//	provider = guard.New(provider, guard.Options{Concurrency: 50, Rate: 500})
//
// A guarded call waits for a free place and for its turn, is given up after a
// time limit, and is repeated a few times, with growing random pauses, where
// that may help. While the service does not answer, calls fail at once instead
// of piling up. No call sleeps past its deadline, and no goroutine is left behind.
//
// The provider keeps its optional abilities: batches, rewrap, probe and so on. A
// batch counts as one request, and an item of it that fails is not repeated.
// Around multi.New a guard repeats the whole; it is better put around each of
// its providers, so that an outage of one is passed over at once.
//
// The clients of the key services repeat requests too, and their attempts
// multiply with a guard's: set Attempts to 1, or let the client try once.
package guard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
	"github.com/kmsencrypted/kmsencrypted/providers/intercept"
)

// Options of a guard. The zero value limits neither concurrency nor rate and has
// the defaults named below for the rest. Negative values are
// [kmsencrypted.ErrConfig], but for BreakAfter.
type Options struct {
	// Concurrency is how many requests may be under way. 0 is no limit.
	Concurrency int
	// Rate is how many requests may begin in a second, repetitions included.
	// 0 is no limit.
	Rate float64
	// Burst is how many requests may begin at once after a quiet time. 0 is a
	// tenth of Rate, at least 1.
	Burst int
	// CallTimeout bounds one request. Past it the request counts as
	// [kmsencrypted.ErrUnavailable], which a caller's own, shorter deadline does
	// not. 0 is 5 seconds.
	CallTimeout time.Duration
	// Attempts is how often a request is made before its error is returned, if
	// the error is [kmsencrypted.Retryable]. 0 is 3; 1 repeats nothing.
	Attempts int
	// Backoff bounds the pause before the second attempt. The bound doubles
	// before each further one, up to MaxBackoff; the pause is random below it, so
	// that programs that failed together do not come back together. 0 is 100
	// milliseconds, and 2 seconds for MaxBackoff.
	Backoff, MaxBackoff time.Duration
	// BreakAfter is how many requests in a row have to end in
	// [kmsencrypted.ErrUnavailable] until calls fail at once, by an [OpenError].
	// 0 is 10; negative is never.
	BreakAfter int
	// BreakFor is how long calls then fail, until a single request is let
	// through. If it is answered all are again, else it begins anew. 0 is 5 seconds.
	BreakFor time.Duration
}

func (o Options) withDefaults() Options {
	o.Burst = cmp.Or(o.Burst, max(1, int(o.Rate/10)))
	o.CallTimeout = cmp.Or(o.CallTimeout, 5*time.Second)
	o.Attempts = cmp.Or(o.Attempts, 3)
	o.Backoff = cmp.Or(o.Backoff, 100*time.Millisecond)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, 2*time.Second)
	o.BreakAfter = cmp.Or(o.BreakAfter, 10)
	o.BreakFor = cmp.Or(o.BreakFor, 5*time.Second)
	return o
}

func (o Options) check() error {
	if o.Concurrency < 0 || !(o.Rate >= 0) || o.Burst < 0 || o.CallTimeout < 0 || o.Attempts < 0 ||
		o.Backoff < 0 || o.MaxBackoff < 0 || o.BreakFor < 0 {
		return fmt.Errorf("guard: %w: negative limit in %+v", kmsencrypted.ErrConfig, o)
	}
	return nil
}

// New returns a provider that is guarded, with the optional abilities of the one
// it is given. Mistakes in the options fail every call, and are reported by
// [kmsencrypted.Config.Box] before. No provider remains none.
func New(provider kmsencrypted.Provider, options Options) kmsencrypted.Provider {
	if provider == nil {
		return nil
	}
	mistake := options.check()
	options = options.withDefaults()
	g := &guard{
		info:    provider.Info,
		options: options,
		mistake: mistake,
		places:  make(chan struct{}, max(options.Concurrency, 0)),
		rate:    newRate(options.Rate, options.Burst),
		circuit: circuit{breakAfter: options.BreakAfter, breakFor: options.BreakFor},
	}
	return intercept.Wrap(provider, mistake, g.call)
}

// guard is what all calls to one provider share.
type guard struct {
	info    func() kmsencrypted.KeyInfo
	options Options
	mistake error
	places  chan struct{} // one element for each request under way
	rate    *rate
	circuit circuit
}

// call makes a request, again and again as the options allow.
func (g *guard) call(ctx context.Context, call *intercept.Call, next func(context.Context) error) error {
	if g.mistake != nil {
		return g.failed(call, g.mistake, nil)
	}
	for attempt := 1; ; attempt++ {
		err := g.attempt(ctx, call, next)
		if !kmsencrypted.Retryable(err) || isOwn(err) || attempt == g.options.Attempts {
			return err
		}
		pause := g.pause(attempt)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
			return err
		}
		if sleep.For(ctx, pause) != nil {
			return g.failed(call, ctx.Err(), err)
		}
	}
}

// attempt waits until it may make one request, and makes it.
func (g *guard) attempt(ctx context.Context, call *intercept.Call, next func(context.Context) error) error {
	if err := g.circuit.state(); err != nil {
		return g.failed(call, kmsencrypted.ErrUnavailable, err)
	}
	if err := g.enter(ctx); err != nil {
		return g.failed(call, err, nil)
	}
	defer g.leave()
	if err := g.rate.wait(ctx); err != nil {
		if isOwn(err) {
			return g.failed(call, kmsencrypted.ErrThrottled, err)
		}
		return g.failed(call, err, nil)
	}
	probe, err := g.circuit.enter()
	if err != nil {
		return g.failed(call, kmsencrypted.ErrUnavailable, err)
	}
	limited, cancel := context.WithTimeout(ctx, g.options.CallTimeout)
	defer cancel()
	err = next(limited)
	if errors.Is(err, context.DeadlineExceeded) && limited.Err() != nil && ctx.Err() == nil {
		err = g.failed(call, kmsencrypted.ErrUnavailable, fmt.Errorf("no answer within %v", g.options.CallTimeout))
	}
	g.circuit.leave(probe, err)
	return err
}

func (g *guard) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil || cap(g.places) == 0 {
		return err
	}
	select {
	case g.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *guard) leave() {
	if cap(g.places) > 0 {
		<-g.places
	}
}

// pause is random up to a bound that doubles with each attempt ("full jitter").
func (g *guard) pause(attempt int) time.Duration {
	bound := g.options.Backoff
	for range attempt - 1 {
		if bound >= g.options.MaxBackoff {
			break
		}
		bound *= 2
	}
	return rand.N(min(bound, g.options.MaxBackoff) + 1)
}

func (g *guard) failed(call *intercept.Call, err, cause error) error {
	info := g.info()
	return &kmsencrypted.Error{Op: string(call.Op), Provider: info.Provider, KeyID: info.KeyID, Err: err, Cause: cause}
}

// isOwn reports whether an error is the guard's, so that no request was made and
// repeating the call at once would not help.
func isOwn(err error) bool {
	_, open := errors.AsType[*OpenError](err)
	_, busy := errors.AsType[*BusyError](err)
	return open || busy
}
