package kmsencrypted

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Op is an operation of a key service.
type Op string

const (
	OpWrap   Op = "wrap"
	OpUnwrap Op = "unwrap"
	OpRewrap Op = "rewrap"
)

// Event is one request to a key service. It holds nothing secret; the context
// is what the service's own audit log shows.
type Event struct {
	Op       Op
	Key      KeyInfo
	Version  int
	Context  BoundContext  // of the first value of a batch
	Count    int           // values in the request
	Duration time.Duration // of the request, waiting for a free slot not included
	Err      error         // nil when the request succeeded

	// Attempts is how often the service was asked, repetitions by its client and
	// by a guard included. 0 where the provider does not say.
	Attempts int
	// KeyVersion is what the service says of the version of its key: a number
	// (Vault, Google when it wraps), "primary" or "not primary" (Google when it
	// unwraps), an id of key material (AWS when it unwraps). Empty where it says
	// nothing, and in a batch that of one value.
	KeyVersion string
}

// Observer is told of every request to a key service, after it ended. It must be
// safe for concurrent use and quick. A request that several callers share is
// told once, with the values of the first caller's context; it may end after
// that caller has given up. A cache hit is not reported.
type Observer func(ctx context.Context, event Event)

// Masked is an observer that sees, instead of each context, the text that mask
// makes of it: for logs that must not hold the ids of records. Mask must be safe
// for concurrent use.
func (o Observer) Masked(mask func(BoundContext) string) Observer {
	return func(ctx context.Context, e Event) {
		e.Context = BoundContext{kind: contextText, text: mask(e.Context)}
		o(ctx, e)
	}
}

// progress is what a provider says of the request that it is making.
type progress struct {
	outer      *progress // of the request that this one is a part of
	attempts   atomic.Int64
	keyVersion atomic.Pointer[string]
}

type progressKey struct{}

func progressOf(ctx context.Context) *progress {
	p, _ := ctx.Value(progressKey{}).(*progress)
	return p
}

// Attempted is for providers: it counts an attempt of the request that ctx was
// given for ([Event.Attempts]).
func Attempted(ctx context.Context) {
	for p := progressOf(ctx); p != nil; p = p.outer {
		p.attempts.Add(1)
	}
}

// UsedKeyVersion is for providers: it says which version of the key the service
// used for the request that ctx was given for ([Event.KeyVersion]).
func UsedKeyVersion(ctx context.Context, version string) {
	for p := progressOf(ctx); p != nil; p = p.outer {
		p.keyVersion.Store(&version)
	}
}

// Observe makes a request and tells o of it, with the time it took and what the
// provider said; a nil o is told nothing. It is for providers that ask others. A
// request that ends in [errors.ErrUnsupported] was none.
func (o Observer) Observe(ctx context.Context, event func() Event, request func(context.Context) error) error {
	if o == nil {
		return request(ctx)
	}
	p := &progress{outer: progressOf(ctx)}
	start := time.Now()
	err := request(context.WithValue(ctx, progressKey{}, p))
	if errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	e := event()
	e.Duration, e.Err, e.Attempts = time.Since(start), err, int(p.attempts.Load())
	if version := p.keyVersion.Load(); version != nil {
		e.KeyVersion = *version
	}
	o(ctx, e)
	return err
}

// LogEvents is an [Observer] that writes one line per request: debug for
// successes, warn for failures.
func LogEvents(logger *slog.Logger) Observer {
	return func(ctx context.Context, e Event) {
		level, attrs := slog.LevelDebug, []slog.Attr{
			slog.String("op", string(e.Op)),
			slog.String("provider", e.Key.Provider),
			slog.String("key_id", e.Key.KeyID),
			slog.Int("version", e.Version),
			slog.String("context", e.Context.String()),
			slog.Int("count", e.Count),
			slog.Duration("duration", e.Duration),
		}
		if e.Attempts > 0 {
			attrs = append(attrs, slog.Int("attempts", e.Attempts))
		}
		if e.KeyVersion != "" {
			attrs = append(attrs, slog.String("key_version", e.KeyVersion))
		}
		if e.Err != nil {
			level, attrs = slog.LevelWarn, append(attrs, slog.String("error", e.Err.Error()))
		}
		logger.LogAttrs(ctx, level, "kms request", attrs...)
	}
}

// observed runs one request and reports it, unless ctx has ended before.
func (b *Box) observed(ctx context.Context, event func() Event, request func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.requests.Add(1)
	defer b.requests.Add(-1)
	return b.config.Observer.Observe(ctx, event, request)
}

// batch makes one request for several items and reports it; one is the event of a
// single item. It returns as many answers as there are items, or an error.
func (b *Box) batch(ctx context.Context, one func() Event, items int, request func(context.Context) ([]Result, error)) (answers []Result, err error) {
	event := func() Event {
		e := one()
		e.Count = items
		return e
	}
	err = b.observed(ctx, event, func(ctx context.Context) (err error) {
		answers, err = request(ctx)
		if err == nil && len(answers) != items {
			err = fmt.Errorf("%w: %d answers to %d items", ErrUnavailable, len(answers), items)
		}
		return err
	})
	return answers, err
}

// InFlight returns the number of requests to key services that are in flight, 0
// for a nil or zero Box.
func (b *Box) InFlight() int {
	if b.usable() != nil {
		return 0
	}
	return int(b.requests.Load())
}
