package kmsotel_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmsotel "github.com/kmsencrypted/kmsencrypted/otel"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// The events of a run become metrics of fixed names.
func TestRotationMetrics(t *testing.T) {
	t.Parallel()
	sdk := newTelemetry()
	observe, err := kmsotel.NewRotation(sdk.meters)
	if err != nil {
		t.Fatal(err)
	}
	event := func(e rotation.Event) {
		e.Table, e.Run, e.Planned = "users", "r", 1000
		observe(e)
	}
	event(rotation.Event{Type: rotation.EventPlanned})
	event(rotation.Event{Type: rotation.EventShard, Shard: 3})
	event(rotation.Event{Type: rotation.EventBatch, Shard: 3, Elapsed: time.Millisecond, Outcome: rotation.Outcome{Written: 5},
		Stages: rotation.Stages{Read: 2 * time.Second, Rotate: 3 * time.Second, Wait: 4 * time.Second, Write: 5 * time.Second}})
	if _, known := gauge[float64](t, sdk, "kmsencrypted.rotation.eta"); known {
		t.Error("an estimate from less than 1 %")
	}
	event(rotation.Event{Type: rotation.EventBatch, Shard: 3, Elapsed: 10 * time.Second, Outcome: rotation.Outcome{Written: 195, Conflicts: 2, Failed: 1}})
	event(rotation.Event{Type: rotation.EventFailure, Shard: 3, Failure: &rotation.Failure{Record: "id=7", Class: "decrypt", Err: kmsencrypted.ErrDecrypt}})
	event(rotation.Event{Type: rotation.EventThrottled, Shard: 3, Err: kmsencrypted.ErrThrottled})
	event(rotation.Event{Type: rotation.EventWaiting, Reason: "replication lag 12s"})
	event(rotation.Event{Type: rotation.EventLost, Shard: 3})

	for _, want := range []struct {
		name, key, value string
		n                int64
	}{
		{"records", "kmsencrypted.outcome", "written", 200},
		{"records", "kmsencrypted.outcome", "conflict", 2},
		{"records", "kmsencrypted.outcome", "failed", 1},
		{"failures", "kmsencrypted.class", "decrypt", 1},
		{"throttled", "kmsencrypted.reason", "throttled", 1},
		{"throttled", "kmsencrypted.reason", "check", 1},
		{"batches", "kmsencrypted.table", "users", 2},
		{"leases_lost", "kmsencrypted.table", "users", 1},
	} {
		if got := counted(t, sdk, "kmsencrypted.rotation."+want.name, want.key, want.value); got != want.n {
			t.Errorf("%s %s=%s is %d, want %d", want.name, want.key, want.value, got, want.n)
		}
	}
	if left, _ := gauge[int64](t, sdk, "kmsencrypted.rotation.remaining"); left != 800 {
		t.Errorf("remaining = %d, want 800", left)
	}
	if eta, _ := gauge[float64](t, sdk, "kmsencrypted.rotation.eta"); eta != 40 {
		t.Errorf("eta = %v s, want 40 at 20 a second", eta)
	}
	durations, ok := sdk.metrics(t)["kmsencrypted.rotation.batch.duration"].Data.(metricdata.Histogram[float64])
	if !ok || len(durations.DataPoints) != 1 || durations.DataPoints[0].Count != 2 {
		t.Errorf("durations of batches: %+v", durations)
	}
	event(rotation.Event{Type: rotation.EventDone})
	if left, _ := gauge[int64](t, sdk, "kmsencrypted.rotation.remaining"); left != 0 {
		t.Errorf("remaining = %d after the end, want 0", left)
	}
	wantStages(t, sdk)
}

// The time of each stage is reported separately.
func wantStages(t *testing.T, sdk *telemetry) {
	t.Helper()
	stages, ok := sdk.metrics(t)["kmsencrypted.rotation.stage.duration"].Data.(metricdata.Histogram[float64])
	if !ok || len(stages.DataPoints) != 4 {
		t.Fatalf("durations of stages: %+v", stages)
	}
	want := map[string]float64{"read": 2, "rotate": 3, "wait": 4, "write": 5}
	for _, point := range stages.DataPoints {
		stage, _ := point.Attributes.Value("kmsencrypted.stage")
		if point.Count != 2 || point.Sum != want[stage.AsString()] {
			t.Errorf("stage %q took %v s in %d batches, want %v in 2", stage.AsString(), point.Sum, point.Count, want[stage.AsString()])
		}
	}
}

// Requests count from when they leave until they are answered.
func TestInFlight(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	sdk, box := newTelemetry(), kmstest.Box(t, kmstest.Before(func(context.Context) error {
		asked <- struct{}{}
		<-answer
		return nil
	}))
	registration, err := kmsotel.InFlight(sdk.meters, box)
	if err != nil {
		t.Fatal(err)
	}
	want := func(n int64) {
		t.Helper()
		if got, known := gauge[int64](t, sdk, "kmsencrypted.requests.in_flight"); !known || got != n {
			t.Errorf("in flight: %d, want %d", got, n)
		}
	}
	want(0)
	done := make(chan error)
	for n := range 3 {
		go func() {
			_, err := box.Encrypt(t.Context(), []byte("secret"), kmsencrypted.Context{"n": n})
			done <- err
		}()
		<-asked
	}
	want(3)
	for range 3 {
		answer <- struct{}{}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	want(0)
	if err := registration.Unregister(); err != nil {
		t.Error(err)
	}
	if _, err := kmsotel.InFlight(sdk.meters, nil); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("InFlight of nothing = %v, want ErrConfig", err)
	}
}

// countingLimiter lets a number of calls through.
type countingLimiter struct{ left int }

func (l *countingLimiter) Burst() int { return 7 }

func (l *countingLimiter) Wait(_ context.Context, n int) error {
	if l.left -= n; l.left < 0 {
		return errors.New("no more")
	}
	return nil
}

func TestLimiterMetrics(t *testing.T) {
	t.Parallel()
	sdk := newTelemetry()
	l, err := kmsotel.Limiter(sdk.meters, &countingLimiter{left: 10})
	if err != nil {
		t.Fatal(err)
	}
	if l.Burst() != 7 {
		t.Errorf("Burst() = %d, want the limiter's own", l.Burst())
	}
	if err := l.Wait(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	if err := l.Wait(t.Context(), 1); err == nil {
		t.Error("the limiter's error is lost")
	}
	all := sdk.metrics(t)
	calls := all["kmsencrypted.rotation.limiter.calls"].Data.(metricdata.Sum[int64])
	waits := all["kmsencrypted.rotation.limiter.wait"].Data.(metricdata.Histogram[float64])
	if calls.DataPoints[0].Value != 10 || waits.DataPoints[0].Count != 2 {
		t.Errorf("calls %d, waits %d", calls.DataPoints[0].Value, waits.DataPoints[0].Count)
	}
}

// A limiter that slows down and has a rate still does and has.
func TestLimiterForwards(t *testing.T) {
	t.Parallel()
	beneath := rotation.NewLimiter(1000)
	l, err := kmsotel.Limiter(newTelemetry().meters, beneath)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.(rotation.ThrottledLimiter).Throttled(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rate := l.(interface{ Rate() float64 }).Rate(); rate != 500 || beneath.Rate() != 500 {
		t.Errorf("after throttling the rate is %v, beneath %v, want 500", rate, beneath.Rate())
	}
}

func TestRotationRefusals(t *testing.T) {
	t.Parallel()
	if _, err := kmsotel.NewRotation(nil); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("NewRotation(nil) = %v", err)
	}
	if _, err := kmsotel.Limiter(newTelemetry().meters, nil); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Limiter(nil) = %v", err)
	}
}

// counted is a counter's value for an attribute.
func counted(t *testing.T, sdk *telemetry, name, key, value string) int64 {
	t.Helper()
	sum, ok := sdk.metrics(t)[name].Data.(metricdata.Sum[int64])
	if !ok {
		t.Errorf("no counter %s", name)
	}
	for _, point := range sum.DataPoints {
		if v, ok := point.Attributes.Value(attribute.Key(key)); ok && v.AsString() == value {
			return point.Value
		}
	}
	return 0
}

func gauge[N int64 | float64](t *testing.T, sdk *telemetry, name string) (value N, known bool) {
	t.Helper()
	g, ok := sdk.metrics(t)[name].Data.(metricdata.Gauge[N])
	if !ok || len(g.DataPoints) == 0 {
		return 0, false
	}
	return g.DataPoints[0].Value, true
}
