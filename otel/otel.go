// Package kmsotel reports requests to key services to OpenTelemetry: a span and
// three metrics for each.
//
//	observer, err := kmsotel.New(otel.GetTracerProvider(), otel.GetMeterProvider(), kmsotel.Options{})
//	box, err := kmsencrypted.Config{Observer: observer, …}.Box()
//
// # Spans
//
// Each request has one span of kind client, named "kms wrap", "kms unwrap" or
// "kms rewrap". It begins and ends with the request. Its parent is the span in
// the caller's context. If several callers share a request, the parent is the
// span of the first, which may end before the request. The attributes are:
//
//	kmsencrypted.operation  "wrap", "unwrap" or "rewrap"
//	kmsencrypted.provider   "aws", "gcp", "vault", "local", …
//	kmsencrypted.key_id     the key-encryption key as configured
//	kmsencrypted.version    the version of the key column, an integer
//	kmsencrypted.values     how many values the request held, an integer
//	kmsencrypted.attempts     only where the provider says it: how often the service was asked
//	kmsencrypted.key_version  only where the service says it: see kmsencrypted.Event
//	kmsencrypted.context    only with Options.Mask, and what that returned
//	error.type              only after a failure: the outcome, see below
//
// A failed request sets the span's status to error, with the outcome as its
// description. Error texts are not recorded, because what a key service or a
// proxy writes into them is not known in advance.
//
// # Metrics
//
//	kmsencrypted.requests          counter, {request}
//	kmsencrypted.values            counter, {value}: more than requests where batches are sent
//	kmsencrypted.request.duration  histogram, s
//
// Each has the attributes kmsencrypted.operation, kmsencrypted.provider and
// kmsencrypted.outcome, so the number of time series is small and known. Key and
// context are not attributes. [InFlight] reports the number of requests in
// flight. Rotations have metrics of their own: see [NewRotation] and [Limiter].
//
// # Outcomes
//
//	ok                 the service answered; single items of a batch may have failed
//	decrypt            [kmsencrypted.ErrDecrypt]
//	binding            [kmsencrypted.ErrBinding]
//	denied             [kmsencrypted.ErrDenied]
//	key_unusable       [kmsencrypted.ErrKeyUnusable]
//	config             [kmsencrypted.ErrConfig]
//	context            [kmsencrypted.ErrContext]
//	malformed          [kmsencrypted.ErrMalformed]
//	too_large          [kmsencrypted.ErrTooLarge]
//	throttled          [kmsencrypted.ErrThrottled]
//	unavailable        [kmsencrypted.ErrUnavailable]
//	deadline_exceeded  the caller's context ran out of time
//	canceled           the caller gave up
//	other              anything else
//
// These names are part of the API: dashboards and alerts may rely on them.
package kmsotel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
)

// scope names this instrumentation.
const scope = "github.com/kmsencrypted/kmsencrypted/otel"

const (
	operationKey  = attribute.Key("kmsencrypted.operation")
	providerKey   = attribute.Key("kmsencrypted.provider")
	keyIDKey      = attribute.Key("kmsencrypted.key_id")
	versionKey    = attribute.Key("kmsencrypted.version")
	valuesKey     = attribute.Key("kmsencrypted.values")
	attemptsKey   = attribute.Key("kmsencrypted.attempts")
	keyVersionKey = attribute.Key("kmsencrypted.key_version")
	contextKey    = attribute.Key("kmsencrypted.context")
	outcomeKey    = attribute.Key("kmsencrypted.outcome")
	errorTypeKey  = attribute.Key("error.type") // OpenTelemetry's own name
)

// Options of [New]. The zero value is usual.
type Options struct {
	// Mask returns the attribute kmsencrypted.context of a span: the encryption
	// context without what must not leave the process. If it returns "" or is nil,
	// the span has no such attribute. kmsencrypted.BoundContext.String returns the
	// whole context. Mask is called only for sampled spans, with the context of the
	// first value of a batch. It must be safe for concurrent use.
	Mask func(kmsencrypted.BoundContext) string
}

// New returns an observer for [kmsencrypted.Config]. A nil tracer provider makes
// no spans, a nil meter provider no metrics; both nil is
// [kmsencrypted.ErrConfig]. The providers stay the caller's to shut down.
func New(tracers trace.TracerProvider, meters metric.MeterProvider, options Options) (kmsencrypted.Observer, error) {
	if missing.Is(tracers) {
		tracers = nil
	}
	if missing.Is(meters) {
		meters = nil
	}
	if tracers == nil && meters == nil {
		return nil, fmt.Errorf("kmsotel: %w: neither a tracer nor a meter provider", kmsencrypted.ErrConfig)
	}
	if tracers == nil {
		tracers = noop.NewTracerProvider()
	}
	r := &reporter{tracer: tracers.Tracer(scope), mask: options.Mask}
	if meters != nil {
		var err error
		if r.instruments, err = newInstruments(meters.Meter(scope)); err != nil {
			return nil, fmt.Errorf("kmsotel: %w: %w", kmsencrypted.ErrConfig, err)
		}
	}
	return r.observe, nil
}

type reporter struct {
	tracer trace.Tracer
	mask   func(kmsencrypted.BoundContext) string
	*instruments
}

func (r *reporter) observe(ctx context.Context, e kmsencrypted.Event) {
	end := time.Now()
	ctx, span := r.tracer.Start(ctx, "kms "+string(e.Op),
		trace.WithTimestamp(end.Add(-e.Duration)),
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(
			operationKey.String(string(e.Op)),
			providerKey.String(e.Key.Provider),
			keyIDKey.String(e.Key.KeyID),
			versionKey.Int(e.Version),
			valuesKey.Int(e.Count),
		))
	if e.Attempts > 0 {
		span.SetAttributes(attemptsKey.Int(e.Attempts))
	}
	if e.KeyVersion != "" {
		span.SetAttributes(keyVersionKey.String(e.KeyVersion))
	}
	if r.mask != nil && span.IsRecording() {
		if text := r.mask(e.Context); text != "" {
			span.SetAttributes(contextKey.String(text))
		}
	}
	if e.Err != nil {
		outcome := outcomeOf(e.Err)
		span.SetStatus(codes.Error, outcome)
		span.SetAttributes(errorTypeKey.String(outcome))
	}
	span.End(trace.WithTimestamp(end))
	if r.instruments != nil {
		r.record(ctx, e) // with the span in ctx, for exemplars
	}
}

type instruments struct {
	requests metric.Int64Counter
	values   metric.Int64Counter
	duration metric.Float64Histogram
}

// buckets are in seconds: a nearby Vault answers in one millisecond, and most
// providers time out after ten seconds.
var buckets = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func newInstruments(meter metric.Meter) (*instruments, error) {
	var i instruments
	var errs [3]error
	i.requests, errs[0] = meter.Int64Counter("kmsencrypted.requests",
		metric.WithDescription("Requests to a key service."), metric.WithUnit("{request}"))
	i.values, errs[1] = meter.Int64Counter("kmsencrypted.values",
		metric.WithDescription("Values in requests to a key service."), metric.WithUnit("{value}"))
	i.duration, errs[2] = meter.Float64Histogram("kmsencrypted.request.duration",
		metric.WithDescription("Duration of requests to a key service, including the client's own retries."), metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(buckets[:]...))
	return &i, errors.Join(errs[:]...)
}

func (i *instruments) record(ctx context.Context, e kmsencrypted.Event) {
	attributes := metric.WithAttributeSet(attribute.NewSet(
		operationKey.String(string(e.Op)),
		providerKey.String(e.Key.Provider),
		outcomeKey.String(outcomeOf(e.Err)),
	))
	i.requests.Add(ctx, 1, attributes)
	i.values.Add(ctx, int64(e.Count), attributes)
	i.duration.Record(ctx, e.Duration.Seconds(), attributes)
}
