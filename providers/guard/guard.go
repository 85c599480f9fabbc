// Package guard protects a program and its key service from each other. It wraps
// any provider:
//
//	provider = guard.New(provider, guard.Options{Concurrency: 50, Rate: 500})
//
// A guarded call waits for a free slot and for the rate limit, ends after a time
// limit, and is retried a few times with growing random pauses if that may help.
// While the service does not answer, calls fail at once instead of piling up. No
// call sleeps past its deadline, and no goroutine is left.
//
// The provider keeps its optional abilities: batches, rewrap, probe and so on. A
// batch counts as one request; a failed item of a batch is not retried. A guard
// around multi.New retries all providers together. Put a guard around each of
// them instead, so that an outage of one is skipped at once.
//
// The clients of the key services retry requests too, and their attempts multiply
// with those of the guard. Set Attempts to 1, or let the client try once.
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

// Options configure a guard. With the zero value, concurrency and rate have no
// limit and the other fields have the defaults named below. Negative values are
// [kmsencrypted.ErrConfig], except for BreakAfter.
type Options struct {
	// Concurrency is the maximum number of concurrent requests. 0 means no limit.
	Concurrency int
	// Rate is the maximum number of requests started per second, including retries.
	// 0 means no limit.
	Rate float64
	// Burst is how many requests may start at once after an idle time. 0 means a
	// tenth of Rate, at least 1.
	Burst int
	// CallTimeout limits one request. After it the request counts as
	// [kmsencrypted.ErrUnavailable]; after an earlier deadline of the caller it does
	// not. 0 means 5 seconds.
	CallTimeout time.Duration
	// Attempts is the maximum number of attempts for an error that is
	// [kmsencrypted.Retryable]. 0 means 3; 1 means no retry.
	Attempts int
	// Backoff is the upper limit of the pause before the second attempt. The limit
	// doubles before each further attempt, up to MaxBackoff. The pause is random
	// below the limit, so that programs that failed together do not retry together.
	// 0 means 100 milliseconds, and 2 seconds for MaxBackoff.
	Backoff, MaxBackoff time.Duration
	// BreakAfter is the number of consecutive requests ending in
	// [kmsencrypted.ErrUnavailable] after which calls fail at once with an
	// [OpenError]. 0 means 10; negative means never.
	BreakAfter int
	// BreakFor is how long calls then fail, until a single request is admitted. If
	// that is answered, all requests are admitted again; otherwise the time starts
	// again. 0 means 5 seconds.
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

// New returns a guard around a provider, with the same optional abilities. If the
// options are invalid, every call fails, and [kmsencrypted.Config.Box] reports
// it. For a nil provider New returns nil.
//
// New calls no service. The guard has no Close method: the caller closes the
// provider inside it, after the last use of the guard.
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

// guard is the state shared by all calls to one provider.
type guard struct {
	info    func() kmsencrypted.KeyInfo
	options Options
	mistake error
	places  chan struct{} // one element for each request under way
	rate    *rate
	circuit circuit
}

// call makes a request, with retries as the options allow.
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

// pause returns a random time up to a limit that doubles with each attempt ("full
// jitter").
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

// isOwn reports whether an error comes from the guard itself. Then no request was
// made, and an immediate retry would not help.
func isOwn(err error) bool {
	_, open := errors.AsType[*OpenError](err)
	_, busy := errors.AsType[*BusyError](err)
	return open || busy
}
