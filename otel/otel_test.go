package kmsotel_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/kmsencrypted/kmsencrypted"
	kmsotel "github.com/kmsencrypted/kmsencrypted/otel"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

const module = "github.com/kmsencrypted/kmsencrypted/otel"

// telemetry is an SDK that keeps everything in memory.
type telemetry struct {
	tracers *sdktrace.TracerProvider
	meters  *sdkmetric.MeterProvider
	spans   *tracetest.InMemoryExporter
	reader  *sdkmetric.ManualReader
}

func newTelemetry() *telemetry {
	t := &telemetry{spans: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader()}
	t.tracers = sdktrace.NewTracerProvider(sdktrace.WithSyncer(t.spans))
	t.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(t.reader))
	return t
}

func (t *telemetry) observer(tb testing.TB, options kmsotel.Options) kmsencrypted.Observer {
	tb.Helper()
	observer, err := kmsotel.New(t.tracers, t.meters, options)
	if err != nil {
		tb.Fatal(err)
	}
	return observer
}

// metrics collects the recorded metrics by name.
func (t *telemetry) metrics(tb testing.TB) map[string]metricdata.Metrics {
	tb.Helper()
	var all metricdata.ResourceMetrics
	if err := t.reader.Collect(tb.Context(), &all); err != nil {
		tb.Fatal(err)
	}
	byName := make(map[string]metricdata.Metrics)
	for _, scope := range all.ScopeMetrics {
		if scope.Scope.Name != module {
			tb.Errorf("metrics of scope %q, want %q", scope.Scope.Name, module)
		}
		for _, m := range scope.Metrics {
			byName[m.Name] = m
		}
	}
	return byName
}

func bind(tb testing.TB, ec kmsencrypted.EncryptionContext) kmsencrypted.BoundContext {
	tb.Helper()
	bound, err := kmsencrypted.Bind(ec)
	if err != nil {
		tb.Fatal(err)
	}
	return bound
}

var vaultKey = kmsencrypted.KeyInfo{Provider: "vault", KeyID: "vault/customers"}

func TestSpan(t *testing.T) {
	t.Parallel()
	telemetry := newTelemetry()
	ctx, parent := telemetry.tracers.Tracer("test").Start(t.Context(), "handler")
	before := time.Now()
	telemetry.observer(t, kmsotel.Options{})(ctx, kmsencrypted.Event{
		Op: kmsencrypted.OpUnwrap, Key: vaultKey, Version: 2, Count: 17, Duration: 3 * time.Second,
		Context: bind(t, kmsencrypted.Context{"model_name": "Customer", "model_id": 7}), Attempts: 3, KeyVersion: "4",
	})
	after := time.Now()

	spans := telemetry.spans.GetSpans()
	if len(spans) != 1 {
		t.Fatalf("%d spans, want 1", len(spans))
	}
	span := spans[0]
	if span.Name != "kms unwrap" || span.SpanKind != trace.SpanKindClient {
		t.Errorf("span %q of kind %v, want \"kms unwrap\" of kind client", span.Name, span.SpanKind)
	}
	if span.Parent.SpanID() != parent.SpanContext().SpanID() || span.SpanContext.TraceID() != parent.SpanContext().TraceID() {
		t.Errorf("span is not a child of the caller's")
	}
	if span.EndTime.Before(before) || span.EndTime.After(after) {
		t.Errorf("span ends at %v, want between %v and %v", span.EndTime, before, after)
	}
	if d := span.EndTime.Sub(span.StartTime); d != 3*time.Second {
		t.Errorf("span lasts %v, want 3s", d)
	}
	if want := (instrumentation.Scope{Name: module}); span.InstrumentationScope != want {
		t.Errorf("scope = %+v, want %+v", span.InstrumentationScope, want)
	}
	if span.Status.Code != codes.Unset {
		t.Errorf("status = %v, want unset", span.Status)
	}
	wantAttributes(t, span, map[string]any{
		"kmsencrypted.operation": "unwrap",
		"kmsencrypted.provider":  "vault",
		"kmsencrypted.key_id":    "vault/customers",
		"kmsencrypted.version":   int64(2),
		"kmsencrypted.values":    int64(17),

		"kmsencrypted.attempts":    int64(3),
		"kmsencrypted.key_version": "4",
	})
}

// wantAttributes checks that a span has these attributes and no others.
func wantAttributes(t *testing.T, span tracetest.SpanStub, want map[string]any) {
	t.Helper()
	got := make(map[string]any)
	for _, a := range span.Attributes {
		got[string(a.Key)] = a.Value.AsInterface()
	}
	if !maps.Equal(got, want) {
		t.Errorf("attributes = %v, want %v", got, want)
	}
}

func TestFailure(t *testing.T) {
	t.Parallel()
	telemetry := newTelemetry()
	const detail = "something a proxy wrote about ada@example.org"
	telemetry.observer(t, kmsotel.Options{})(t.Context(), kmsencrypted.Event{
		Op: kmsencrypted.OpWrap, Key: vaultKey, Version: 1, Count: 1, Duration: time.Millisecond,
		Err: &kmsencrypted.Error{Op: "encrypt", Provider: "vault", Err: kmsencrypted.ErrThrottled, Cause: errors.New(detail)},
	})
	span := telemetry.spans.GetSpans()[0]
	if want := (sdktrace.Status{Code: codes.Error, Description: "throttled"}); span.Status != want {
		t.Errorf("status = %+v, want %+v", span.Status, want)
	}
	wantAttributes(t, span, map[string]any{
		"kmsencrypted.operation": "wrap",
		"kmsencrypted.provider":  "vault",
		"kmsencrypted.key_id":    "vault/customers",
		"kmsencrypted.version":   int64(1),
		"kmsencrypted.values":    int64(1),
		"error.type":             "throttled",
	})
	if len(span.Events) != 0 || strings.Contains(fmt.Sprintf("%+v", span), detail) {
		t.Errorf("the span holds the text of the error: %+v", span)
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	ec := kmsencrypted.Context{"model_name": "Customer", "model_id": 7}
	for _, test := range []struct {
		name string
		mask func(kmsencrypted.BoundContext) string
		ec   kmsencrypted.EncryptionContext
		want string // "" for no attribute
	}{
		{"no mask", nil, ec, ""},
		{"whole", kmsencrypted.BoundContext.String, ec, `{"model_id":"7","model_name":"Customer"}`},
		{"masked", func(kmsencrypted.BoundContext) string { return "a customer" }, ec, "a customer"},
		{"emptied", func(kmsencrypted.BoundContext) string { return "" }, ec, ""},
		{"no context", kmsencrypted.BoundContext.String, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			telemetry := newTelemetry()
			telemetry.observer(t, kmsotel.Options{Mask: test.mask})(t.Context(), kmsencrypted.Event{
				Op: kmsencrypted.OpWrap, Key: vaultKey, Count: 1, Context: bind(t, test.ec),
			})
			span := telemetry.spans.GetSpans()[0]
			i := slices.IndexFunc(span.Attributes, func(a attribute.KeyValue) bool { return a.Key == "kmsencrypted.context" })
			got := ""
			if i >= 0 {
				got = span.Attributes[i].Value.AsString()
			}
			if got != test.want || (i >= 0) != (test.want != "") {
				t.Errorf("kmsencrypted.context = %q (index %d), want %q", got, i, test.want)
			}
		})
	}
}

func TestMaskIsNotAskedForUnsampledSpans(t *testing.T) {
	t.Parallel()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	asked := false
	observer, err := kmsotel.New(tracers, nil, kmsotel.Options{Mask: func(kmsencrypted.BoundContext) string { asked = true; return "x" }})
	if err != nil {
		t.Fatal(err)
	}
	observer(t.Context(), kmsencrypted.Event{Op: kmsencrypted.OpWrap, Key: vaultKey, Count: 1})
	if asked {
		t.Errorf("Mask was called for a span that is not sampled")
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	telemetry := newTelemetry()
	observer := telemetry.observer(t, kmsotel.Options{})
	// A request that ended because its context did is counted like others.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, request := range []struct {
		ctx      context.Context
		op       kmsencrypted.Op
		count    int
		duration time.Duration
		err      error
	}{
		{t.Context(), kmsencrypted.OpUnwrap, 250, 4 * time.Millisecond, nil},
		{t.Context(), kmsencrypted.OpUnwrap, 3, 2 * time.Millisecond, nil},
		{t.Context(), kmsencrypted.OpWrap, 1, time.Second, kmsencrypted.ErrDenied},
		{ended, kmsencrypted.OpUnwrap, 1, 20 * time.Second, context.Canceled},
	} {
		observer(request.ctx, kmsencrypted.Event{
			Op: request.op, Key: vaultKey, Version: 1, Count: request.count, Duration: request.duration, Err: request.err,
		})
	}

	got := telemetry.metrics(t)
	if len(got) != 3 {
		t.Errorf("%d metrics, want 3", len(got))
	}
	series := func(op, outcome string) attribute.Set {
		return attribute.NewSet(
			attribute.String("kmsencrypted.operation", op),
			attribute.String("kmsencrypted.provider", "vault"),
			attribute.String("kmsencrypted.outcome", outcome),
		)
	}
	ok, denied, canceled := series("unwrap", "ok"), series("wrap", "denied"), series("unwrap", "canceled")
	sum := func(first, second, third int64) metricdata.Sum[int64] {
		return metricdata.Sum[int64]{
			Temporality: metricdata.CumulativeTemporality, IsMonotonic: true,
			DataPoints: []metricdata.DataPoint[int64]{
				{Attributes: ok, Value: first}, {Attributes: denied, Value: second}, {Attributes: canceled, Value: third},
			},
		}
	}
	bounds := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	durations := func(set attribute.Set, seconds ...float64) metricdata.HistogramDataPoint[float64] {
		point := metricdata.HistogramDataPoint[float64]{
			Attributes: set, Count: uint64(len(seconds)), Bounds: bounds, BucketCounts: make([]uint64, len(bounds)+1),
			Min: metricdata.NewExtrema(slices.Min(seconds)), Max: metricdata.NewExtrema(slices.Max(seconds)),
		}
		for _, s := range seconds {
			point.Sum += s
			bucket, _ := slices.BinarySearch(bounds, s) // bounds belong to the bucket below
			point.BucketCounts[bucket]++
		}
		return point
	}
	for _, want := range []metricdata.Metrics{
		{Name: "kmsencrypted.requests", Unit: "{request}", Description: "Requests to a key service.", Data: sum(2, 1, 1)},
		{Name: "kmsencrypted.values", Unit: "{value}", Description: "Values in requests to a key service.", Data: sum(253, 1, 1)},
		{
			Name: "kmsencrypted.request.duration", Unit: "s",
			Description: "Duration of requests to a key service, including the client's own retries.",
			Data: metricdata.Histogram[float64]{
				Temporality: metricdata.CumulativeTemporality,
				DataPoints: []metricdata.HistogramDataPoint[float64]{
					durations(ok, .004, .002), durations(denied, 1), durations(canceled, 20),
				},
			},
		},
	} {
		metricdatatest.AssertEqual(t, want, got[want.Name], metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
	}
}

// From a slow request in a diagram one gets to its span.
func TestExemplarsNameTheSpan(t *testing.T) {
	t.Parallel()
	telemetry := newTelemetry()
	telemetry.observer(t, kmsotel.Options{})(t.Context(), kmsencrypted.Event{Op: kmsencrypted.OpUnwrap, Key: vaultKey, Count: 1, Duration: time.Second})
	durations := telemetry.metrics(t)["kmsencrypted.request.duration"].Data.(metricdata.Histogram[float64])
	exemplars := durations.DataPoints[0].Exemplars
	want := telemetry.spans.GetSpans()[0].SpanContext.SpanID()
	if len(exemplars) != 1 || trace.SpanID(exemplars[0].SpanID) != want {
		t.Errorf("exemplars = %+v, want one of span %v", exemplars, want)
	}
}

// One provider is enough.
func TestNilProviders(t *testing.T) {
	t.Parallel()
	event := kmsencrypted.Event{Op: kmsencrypted.OpWrap, Key: vaultKey, Count: 1}

	onlySpans := newTelemetry()
	observer, err := kmsotel.New(onlySpans.tracers, nil, kmsotel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	observer(t.Context(), event)
	if n := len(onlySpans.spans.GetSpans()); n != 1 {
		t.Errorf("%d spans, want 1", n)
	}

	onlyMetrics := newTelemetry()
	if observer, err = kmsotel.New(nil, onlyMetrics.meters, kmsotel.Options{}); err != nil {
		t.Fatal(err)
	}
	observer(t.Context(), event)
	if n := len(onlyMetrics.metrics(t)); n != 3 {
		t.Errorf("%d metrics, want 3", n)
	}

	if _, err := kmsotel.New(nil, nil, kmsotel.Options{}); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("New(nil, nil, nil) error = %v, want %v", err, kmsencrypted.ErrConfig)
	}
}

// meters that cannot make a counter.
type failingMeters struct{ metric.MeterProvider }

func (f failingMeters) Meter(name string, options ...metric.MeterOption) metric.Meter {
	return failingMeter{f.MeterProvider.Meter(name, options...)}
}

type failingMeter struct{ metric.Meter }

func (failingMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return nil, errors.New("no room for a counter")
}

func TestInstrumentsThatCannotBeMade(t *testing.T) {
	t.Parallel()
	observer, err := kmsotel.New(nil, failingMeters{newTelemetry().meters}, kmsotel.Options{})
	if !errors.Is(err, kmsencrypted.ErrConfig) || observer != nil {
		t.Errorf("New = %v, %v, want nil, %v", observer != nil, err, kmsencrypted.ErrConfig)
	}
}

// A Box with the observer reports each of its requests.
func TestBox(t *testing.T) {
	t.Parallel()
	telemetry := newTelemetry()
	provider, err := local.Create(t.TempDir() + "/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	box, err := kmsencrypted.Config{
		Current:  1,
		Versions: map[int]kmsencrypted.Version{1: {Provider: provider}},
		Observer: telemetry.observer(t, kmsotel.Options{}),
	}.Box()
	if err != nil {
		t.Fatal(err)
	}
	ec := kmsencrypted.Context{"purpose": "webhook"}
	column, err := box.Encrypt(t.Context(), []byte("token"), ec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := box.Decrypt(t.Context(), column, ec); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Decrypt(t.Context(), column, kmsencrypted.Context{"purpose": "login"}); !errors.Is(err, kmsencrypted.ErrDecrypt) {
		t.Fatalf("Decrypt under another context: error = %v, want %v", err, kmsencrypted.ErrDecrypt)
	}
	var got []string
	for _, span := range telemetry.spans.GetSpans() {
		got = append(got, span.Name+" "+span.Status.Description)
	}
	if want := []string{"kms wrap ", "kms unwrap ", "kms unwrap decrypt"}; !slices.Equal(got, want) {
		t.Errorf("spans = %q, want %q", got, want)
	}
}

// BenchmarkObserve: what the observer adds to a request. The limit is a span
// with the same attributes and the three measurements by hand.
func BenchmarkObserve(b *testing.B) {
	event := kmsencrypted.Event{
		Op: kmsencrypted.OpUnwrap, Key: vaultKey, Version: 1, Count: 1, Duration: time.Millisecond,
		Context: bind(b, kmsencrypted.Context{"model_name": "Customer", "model_id": 7}),
	}
	providers := func() (*sdktrace.TracerProvider, *sdkmetric.MeterProvider) {
		return sdktrace.NewTracerProvider(), sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	}
	b.Run("limit", func(b *testing.B) {
		b.ReportAllocs()
		tracers, meters := providers()
		tracer, meter := tracers.Tracer("limit"), meters.Meter("limit")
		first, _ := meter.Int64Counter("first")
		second, _ := meter.Int64Counter("second")
		third, _ := meter.Float64Histogram("third")
		for b.Loop() {
			ctx, span := tracer.Start(b.Context(), "kms unwrap", trace.WithTimestamp(time.Now()), trace.WithAttributes(
				attribute.String("a", "unwrap"), attribute.String("b", "vault"), attribute.String("c", "vault/customers"),
				attribute.Int("d", 1), attribute.Int("e", 1)))
			span.End(trace.WithTimestamp(time.Now()))
			set := metric.WithAttributeSet(attribute.NewSet(
				attribute.String("a", "unwrap"), attribute.String("b", "vault"), attribute.String("c", "ok")))
			first.Add(ctx, 1, set)
			second.Add(ctx, 1, set)
			third.Record(ctx, .001, set)
		}
	})
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		tracers, meters := providers()
		observer, err := kmsotel.New(tracers, meters, kmsotel.Options{})
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			observer(b.Context(), event)
		}
	})
}
