package kmsencrypted

import (
	"context"
	"errors"
	"log/slog"
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
}

// Observer is told of every request to a key service, after it ended. It must be
// safe for concurrent use and quick. A request that several callers share is
// told once, with the values of the first caller's context; it may end after
// that caller has given up. What the cache spares is no request.
type Observer func(ctx context.Context, event Event)

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
		if e.Err != nil {
			level, attrs = slog.LevelWarn, append(attrs, slog.String("error", e.Err.Error()))
		}
		logger.LogAttrs(ctx, level, "kms request", attrs...)
	}
}

// observed runs one request and reports it.
func (b *Box) observed(ctx context.Context, event func() Event, request func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.config.Observer == nil {
		return request()
	}
	start := time.Now()
	err := request()
	if errors.Is(err, errors.ErrUnsupported) { // no request was made
		return err
	}
	e := event()
	e.Duration, e.Err = time.Since(start), err
	b.config.Observer(ctx, e)
	return err
}
