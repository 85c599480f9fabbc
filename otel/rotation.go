package kmsotel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

const (
	tableKey  = attribute.Key("kmsencrypted.table")
	classKey  = attribute.Key("kmsencrypted.class")
	reasonKey = attribute.Key("kmsencrypted.reason")
	stageKey  = attribute.Key("kmsencrypted.stage")
)

// NewRotation returns a function for [rotation.Options].Observe. Its metrics cover this process only. Their
// names are part of the API:
//
//	kmsencrypted.rotation.records         counter, {record}: by kmsencrypted.outcome "written", "conflict" or "failed"
//	kmsencrypted.rotation.failures        counter, {record}: by kmsencrypted.class, see rotation.FailureClass
//	kmsencrypted.rotation.batches         counter, {batch}
//	kmsencrypted.rotation.batch.duration  histogram, s: from one batch of a shard to its next, all stages
//	kmsencrypted.rotation.stage.duration  histogram, s: of a batch by kmsencrypted.stage "read", "rotate" (key service and sealing), "wait" (for a limit or a throttling service) or "write"
//	kmsencrypted.rotation.throttled       counter, {wait}: by kmsencrypted.reason, an outcome such as "throttled", or "check"
//	kmsencrypted.rotation.leases_lost     counter, {shard}: taken over by another worker
//	kmsencrypted.rotation.remaining       gauge, {record}: planned records that this process has not moved; 0 when the run is done
//	kmsencrypted.rotation.eta             gauge, s: at the rate so far; set once 1 % is done
//
// Each has the attribute kmsencrypted.table. The metrics of [New] cover requests to key services, [Limiter]
// the waiting for a limit, and [InFlight] the requests in flight. The function is safe for concurrent use.
func NewRotation(meters metric.MeterProvider) (func(rotation.Event), error) {
	if missing.Is(meters) {
		return nil, fmt.Errorf("kmsotel: %w: no meter provider", kmsencrypted.ErrConfig)
	}
	i, err := newRotationInstruments(meters.Meter(scope))
	if err != nil {
		return nil, fmt.Errorf("kmsotel: %w: %w", kmsencrypted.ErrConfig, err)
	}
	r := &rotations{rotationInstruments: i, tables: make(map[string]*rotating), now: time.Now}
	return r.observe, nil
}

type rotationInstruments struct {
	records, failures, batches, throttled, lost metric.Int64Counter
	duration, stages                            metric.Float64Histogram
	remaining                                   metric.Int64Gauge
	eta                                         metric.Float64Gauge
}

func newRotationInstruments(meter metric.Meter) (*rotationInstruments, error) {
	var i rotationInstruments
	var errs []error
	for _, c := range []struct {
		into             *metric.Int64Counter
		name, what, unit string
	}{
		{&i.records, "records", "Records that a rotation handled.", "{record}"},
		{&i.failures, "failures", "Records that could not be rotated.", "{record}"},
		{&i.batches, "batches", "Batches that were written.", "{batch}"},
		{&i.throttled, "throttled", "Waits because a key service throttled or was unavailable, or a check held up the run.", "{wait}"},
		{&i.lost, "leases_lost", "Shards that another worker took over.", "{shard}"},
	} {
		counter, err := meter.Int64Counter("kmsencrypted.rotation."+c.name, metric.WithDescription(c.what), metric.WithUnit(c.unit))
		*c.into, errs = counter, append(errs, err)
	}
	for _, h := range []struct {
		into       *metric.Float64Histogram
		name, what string
	}{
		{&i.duration, "batch.duration", "From one batch of a shard to its next: reading, key service, writing and waiting."},
		{&i.stages, "stage.duration", "Duration of the stages of a batch. Stages of consecutive batches overlap."},
	} {
		histogram, err := meter.Float64Histogram("kmsencrypted.rotation."+h.name, metric.WithDescription(h.what), metric.WithUnit("s"),
			metric.WithExplicitBucketBoundaries(.01, .025, .05, .1, .2, .5, 1, 2.5, 5, 10, 30, 60))
		*h.into, errs = histogram, append(errs, err)
	}
	var err error
	i.remaining, err = meter.Int64Gauge("kmsencrypted.rotation.remaining",
		metric.WithDescription("Planned records that this process has not moved."), metric.WithUnit("{record}"))
	errs = append(errs, err)
	i.eta, err = meter.Float64Gauge("kmsencrypted.rotation.eta",
		metric.WithDescription("Estimated time to finish at the rate so far."), metric.WithUnit("s"))
	return &i, errors.Join(append(errs, err)...)
}

// rotations adds up what gauges and durations need.
type rotations struct {
	*rotationInstruments
	now func() time.Time

	mu     sync.Mutex
	tables map[string]*rotating
}

// rotating is the run on a table, as this process sees it.
type rotating struct {
	run      string
	planned  int64
	done     int64
	lastSeen map[int]time.Time // time of a shard's last batch, or when it was taken
}

func (r *rotations) observe(e rotation.Event) {
	ctx := context.Background()
	table := metric.WithAttributes(tableKey.String(e.Table))
	by := func(key attribute.Key, value string) metric.MeasurementOption {
		return metric.WithAttributes(tableKey.String(e.Table), key.String(value))
	}
	switch e.Type {
	case rotation.EventPlanned:
		r.began(e)
		r.remaining.Record(ctx, e.Planned, table)
	case rotation.EventShard:
		r.sinceLast(e)
	case rotation.EventBatch:
		r.batches.Add(ctx, 1, table)
		for outcome, n := range map[string]int64{"written": e.Outcome.Written, "conflict": e.Outcome.Conflicts, "failed": e.Outcome.Failed} {
			if n > 0 {
				r.records.Add(ctx, n, by(outcomeKey, outcome))
			}
		}
		if took := r.sinceLast(e); took > 0 {
			r.duration.Record(ctx, took.Seconds(), table)
		}
		for stage, took := range map[string]time.Duration{"read": e.Stages.Read, "rotate": e.Stages.Rotate, "wait": e.Stages.Wait, "write": e.Stages.Write} {
			r.stages.Record(ctx, took.Seconds(), by(stageKey, stage))
		}
		left, eta := r.moved(e)
		r.remaining.Record(ctx, left, table)
		if eta > 0 || left == 0 {
			r.eta.Record(ctx, eta.Seconds(), table)
		}
	case rotation.EventDone: // others may have moved some, and failed ones are not tried again
		r.remaining.Record(ctx, 0, table)
		r.eta.Record(ctx, 0, table)
	case rotation.EventFailure:
		if e.Failure != nil {
			r.failures.Add(ctx, 1, by(classKey, e.Failure.Class))
		}
	case rotation.EventThrottled:
		r.throttled.Add(ctx, 1, by(reasonKey, outcomeOf(e.Err)))
	case rotation.EventWaiting:
		r.throttled.Add(ctx, 1, by(reasonKey, "check"))
	case rotation.EventLost:
		r.lost.Add(ctx, 1, table)
	}
}

// began records a call of Run. If the run continues, it keeps what is known.
func (r *rotations) began(e rotation.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tables[e.Table] = &rotating{run: e.Run, planned: e.Planned, lastSeen: make(map[int]time.Time)}
}

// of returns the run of an event. A process that schedules slices itself sees no beginning. The caller must
// hold mu.
func (r *rotations) of(e rotation.Event) *rotating {
	t := r.tables[e.Table]
	if t == nil || t.run != e.Run {
		t = &rotating{run: e.Run, planned: e.Planned, lastSeen: make(map[int]time.Time)}
		r.tables[e.Table] = t
	}
	return t
}

// sinceLast returns the time since the last event of a shard, 0 for the first.
func (r *rotations) sinceLast(e rotation.Event) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.of(e)
	last, now := t.lastSeen[e.Shard], r.now()
	t.lastSeen[e.Shard] = now
	if last.IsZero() {
		return 0
	}
	return now.Sub(last)
}

// moved adds a batch, and returns how many records are left and the estimated time.
func (r *rotations) moved(e rotation.Event) (left int64, eta time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.of(e)
	t.done += e.Outcome.Written
	left = max(0, t.planned-t.done)
	if t.done > 0 && t.done*100 >= t.planned {
		eta = time.Duration(float64(e.Elapsed) / float64(t.done) * float64(left))
	}
	return left, eta
}

// InFlight reports the number of requests of a Box to key services in flight, as
//
//	kmsencrypted.requests.in_flight  gauge, {request}
//
// until the returned registration is unregistered.
func InFlight(meters metric.MeterProvider, box *kmsencrypted.Box) (metric.Registration, error) {
	if missing.Is(meters) || box == nil {
		return nil, fmt.Errorf("kmsotel: %w: no meter provider or no box", kmsencrypted.ErrConfig)
	}
	meter := meters.Meter(scope)
	gauge, err := meter.Int64ObservableGauge("kmsencrypted.requests.in_flight",
		metric.WithDescription("Requests to a key service in flight."), metric.WithUnit("{request}"))
	if err != nil {
		return nil, fmt.Errorf("kmsotel: %w: %w", kmsencrypted.ErrConfig, err)
	}
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(gauge, int64(box.InFlight()))
		return nil
	}, gauge)
}

// Limiter measures how long a rotation waits for a limit on calls, as
//
//	kmsencrypted.rotation.limiter.wait   histogram, s
//	kmsencrypted.rotation.limiter.calls  counter, {call}: calls admitted
//
// Pass the result to [rotation.Options].Calls.
func Limiter(meters metric.MeterProvider, l rotation.Limiter) (rotation.Limiter, error) {
	if missing.Is(meters) || missing.Is(l) {
		return nil, fmt.Errorf("kmsotel: %w: no meter provider or no limiter", kmsencrypted.ErrConfig)
	}
	meter := meters.Meter(scope)
	wait, err := meter.Float64Histogram("kmsencrypted.rotation.limiter.wait",
		metric.WithDescription("Time that calls to a key service wait for the limit."), metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(buckets[:]...))
	calls, callsErr := meter.Int64Counter("kmsencrypted.rotation.limiter.calls",
		metric.WithDescription("Calls to a key service that the limit admitted."), metric.WithUnit("{call}"))
	if err := errors.Join(err, callsErr); err != nil {
		return nil, fmt.Errorf("kmsotel: %w: %w", kmsencrypted.ErrConfig, err)
	}
	return &measuredLimiter{Limiter: l, wait: wait, calls: calls}, nil
}

type measuredLimiter struct {
	rotation.Limiter
	wait  metric.Float64Histogram
	calls metric.Int64Counter
}

// Throttled passes the call to the inner limiter, if that has the method.
func (l *measuredLimiter) Throttled(ctx context.Context) error {
	if told, ok := l.Limiter.(rotation.ThrottledLimiter); ok {
		return told.Throttled(ctx)
	}
	return nil
}

// Rate returns the rate of the inner limiter, or 0 if it has none.
func (l *measuredLimiter) Rate() float64 {
	if rated, ok := l.Limiter.(interface{ Rate() float64 }); ok {
		return rated.Rate()
	}
	return 0
}

func (l *measuredLimiter) Wait(ctx context.Context, n int) error {
	began := time.Now()
	err := l.Limiter.Wait(ctx, n)
	l.wait.Record(ctx, time.Since(began).Seconds())
	if err == nil {
		l.calls.Add(ctx, int64(n))
	}
	return err
}
