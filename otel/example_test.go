package kmsotel_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kmsencrypted/kmsencrypted"
	kmsotel "github.com/kmsencrypted/kmsencrypted/otel"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// A Box whose requests show up as spans. The spans name the record's kind and
// not its id: Mask keeps that inside.
func Example() {
	exporter := tracetest.NewInMemoryExporter() // a program has an OTLP exporter
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	meters := sdkmetric.NewMeterProvider()

	kind := func(ec kmsencrypted.BoundContext) string {
		pairs, err := ec.Map()
		if err != nil {
			return ""
		}
		return pairs["model_name"]
	}
	observer, err := kmsotel.New(tracers, meters, kmsotel.Options{Mask: kind})
	if err != nil {
		fmt.Println(err)
		return
	}
	folder, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	provider, err := local.Create(filepath.Join(folder, "keys.txt"))
	if err != nil {
		fmt.Println(err)
		return
	}
	box, err := kmsencrypted.Config{
		Current:  1,
		Versions: map[int]kmsencrypted.Version{1: {Provider: provider}},
		Observer: observer,
	}.Box()
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := box.Encrypt(context.Background(), []byte("4711"), kmsencrypted.Context{"model_name": "Customer", "model_id": 7}); err != nil {
		fmt.Println(err)
		return
	}
	for _, span := range exporter.GetSpans() {
		fmt.Println(span.Name)
		for _, a := range span.Attributes {
			if a.Key == "kmsencrypted.provider" || a.Key == "kmsencrypted.context" {
				fmt.Println(a.Key, "=", a.Value.AsString())
			}
		}
	}
	// Output:
	// kms wrap
	// kmsencrypted.provider = local
	// kmsencrypted.context = Customer
}
