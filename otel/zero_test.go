package kmsotel_test

import (
	"testing"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	kmsotel "github.com/kmsencrypted/kmsencrypted/otel"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Nothing to report to, or nothing to report, is an error and no panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	var meters metric.MeterProvider = noop.NewMeterProvider()
	limiter := new(rotation.RateLimiter)
	zerotest.Calls(t, map[string]func() error{
		"New(nil, nil)": func() error { _, err := kmsotel.New(nil, nil, kmsotel.Options{}); return err },
		"New of nil providers": func() error {
			_, err := kmsotel.New((*sdktrace.TracerProvider)(nil), (*sdkmetric.MeterProvider)(nil), kmsotel.Options{})
			return err
		},
		"NewRotation(nil)":              func() error { _, err := kmsotel.NewRotation(nil); return err },
		"NewRotation of a nil provider": func() error { _, err := kmsotel.NewRotation((*sdkmetric.MeterProvider)(nil)); return err },
		"NewBranches(nil)":              func() error { _, err := kmsotel.NewBranches(nil, kmsotel.BranchOptions{}); return err },
		"InFlight(nil, box)":            func() error { _, err := kmsotel.InFlight(nil, new(kmsencrypted.Box)); return err },
		"InFlight(meters, nil)":         func() error { _, err := kmsotel.InFlight(meters, nil); return err },
		"Limiter(nil, limiter)":         func() error { _, err := kmsotel.Limiter(nil, limiter); return err },
		"Limiter(meters, nil)":          func() error { _, err := kmsotel.Limiter(meters, nil); return err },
		"Limiter(meters, nil *Limiter)": func() error { _, err := kmsotel.Limiter(meters, (*rotation.RateLimiter)(nil)); return err },
	})
}
