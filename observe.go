package kmsencrypted

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/requests"
)

// Op is an operation of a key service.
type Op string

const (
	OpWrap   Op = "wrap"
	OpUnwrap Op = "unwrap"
	OpRewrap Op = "rewrap"
)

// Event is one request to a key service. It contains nothing secret; the context
// is what the service's own audit log shows.
type Event struct {
	Op       Op
	Key      KeyInfo
	Version  int
	Context  BoundContext  // of the first value of a batch
	Count    int           // values in the request
	Duration time.Duration // of the request, without waiting for a free slot
	Err      error         // nil when the request succeeded

	// Attempts is the number of attempts, including retries by the client and by a
	// guard. It is 0 if the provider does not report it.
	Attempts int
	// KeyVersion is what the service reports about the version of its key: a number
	// (Vault, Google when it wraps), "primary" or "not primary" (Google when it
	// unwraps), an id of key material (AWS when it unwraps). It is empty if the
	// service reports nothing. In a batch it is that of one value.
	KeyVersion string
}

// Observer is called after every request to a key service. It must be fast and
// safe for concurrent use. A request shared by several callers is reported once,
// with the context of the first caller; it may end after that caller has given
// up. A cache hit is not reported.
type Observer func(ctx context.Context, event Event)

// Masked returns an observer that receives mask(context) instead of each context,
// for logs that must not contain the ids of records. mask must be safe for
// concurrent use.
func (o Observer) Masked(mask func(BoundContext) string) Observer {
	return func(ctx context.Context, e Event) {
		e.Context = BoundContext{kind: contextText, text: mask(e.Context)}
		o(ctx, e)
	}
}

// progress collects what a provider reports about a request in progress.
type progress struct {
	outer      *progress // of the request that contains this one
	attempts   atomic.Int64
	keyVersion atomic.Pointer[string]
}

type progressKey struct{}

func progressOf(ctx context.Context) *progress {
	p, _ := ctx.Value(progressKey{}).(*progress)
	return p
}

// Attempted counts an attempt of the request of ctx ([Event.Attempts]). Providers
// call it.
func Attempted(ctx context.Context) {
	for p := progressOf(ctx); p != nil; p = p.outer {
		p.attempts.Add(1)
	}
}

// UsedKeyVersion reports the version of the key that the service used for the
// request of ctx ([Event.KeyVersion]). Providers call it.
func UsedKeyVersion(ctx context.Context, version string) {
	for p := progressOf(ctx); p != nil; p = p.outer {
		p.keyVersion.Store(&version)
	}
}

// Observe makes a request and reports it to o, with its duration and what the
// provider reported. o may be nil. It is for providers that call other providers.
// A request that returns [errors.ErrUnsupported] is not reported.
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

// LogEvents returns an [Observer] that logs one line per request: debug for
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

// observed makes one request to a provider and reports it, unless ctx has ended before.
func (b *Box) observed(ctx context.Context, provider Provider, event func() Event, request func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.requests.Add(1)
	defer b.requests.Add(-1)
	if n := requests.Counter(ctx); n != nil {
		request = counted(n, isBranching(provider), request)
	}
	return b.config.Observer.Observe(ctx, event, request)
}

// counted adds the attempts of a request to n, which are what a service bills, or one
// if the provider does not report them. One with branch keys reports those that its
// branches took, and the Box behind it does not count them again.
func counted(n *atomic.Int64, branching bool, request func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		p := &progress{outer: progressOf(ctx)}
		err := request(requests.Counted(context.WithValue(ctx, progressKey{}, p), nil))
		made := p.attempts.Load()
		if made == 0 && !branching && !errors.Is(err, errors.ErrUnsupported) {
			made = 1
		}
		n.Add(made)
		return err
	}
}

// batch makes one request to a provider for several items and reports it. one returns
// the event of a single item. batch returns as many answers as there are items, or an
// error.
func (b *Box) batch(ctx context.Context, provider Provider, one func() Event, items int, request func(context.Context) ([]Result, error)) (answers []Result, err error) {
	event := func() Event {
		e := one()
		e.Count = items
		return e
	}
	err = b.observed(ctx, provider, event, func(ctx context.Context) (err error) {
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
