package kmsotel

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

const (
	eventKey  = attribute.Key("kmsencrypted.event")
	branchKey = attribute.Key("kmsencrypted.branch")
)

// BranchOptions of [NewBranches]. The zero value is usual.
type BranchOptions struct {
	// Name returns the attribute kmsencrypted.branch of a branch. Nil, or "", means no such attribute: a branch
	// may be named after a person, and each name makes a time series of its own.
	Name func(branch.Name) string
}

// NewBranches returns a function for [branch.Options].Observer. Its metric covers this process only:
//
//	kmsencrypted.branch.events  counter, {event}: by kmsencrypted.event, a branch.EventKind such as "opened", "refused" or "erased"
//
// With "refused" and "stale" it has the attribute kmsencrypted.outcome, as the metrics of [New]. The function is safe for
// concurrent use. The error for a nil provider is [kmsencrypted.ErrConfig].
func NewBranches(meters metric.MeterProvider, options BranchOptions) (func(context.Context, branch.Event), error) {
	if missing.Is(meters) {
		return nil, fmt.Errorf("kmsotel: %w: no meter provider", kmsencrypted.ErrConfig)
	}
	events, err := meters.Meter(scope).Int64Counter("kmsencrypted.branch.events",
		metric.WithDescription("What happened to branch keys."), metric.WithUnit("{event}"))
	if err != nil {
		return nil, fmt.Errorf("kmsotel: %w: %w", kmsencrypted.ErrConfig, err)
	}
	return func(ctx context.Context, e branch.Event) {
		attributes := []attribute.KeyValue{eventKey.String(string(e.Kind))}
		if e.Err != nil {
			attributes = append(attributes, outcomeKey.String(outcomeOf(e.Err)))
		}
		if options.Name != nil {
			if name := options.Name(e.Name); name != "" {
				attributes = append(attributes, branchKey.String(name))
			}
		}
		events.Add(ctx, 1, metric.WithAttributes(attributes...))
	}, nil
}
