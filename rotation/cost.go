package rotation

import (
	"context"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Prices are what a key service and its audit log cost. The zero value is free.
type Prices struct {
	Currency string  // "USD"
	PerCall  float64 // one request to the key service
	// LogBytes is what a request adds to the audit log, PerLogGB what keeping 10^9
	// bytes of it costs.
	LogBytes int64
	PerLogGB float64
	// CallsPerSecond is a rate that leaves production its part: a quarter of the
	// service's usual quota. 0: the service sets none.
	CallsPerSecond float64
}

// listPrices by provider, as published in 2025. They differ by region and
// contract, and a log that is only kept where it comes for free costs nothing.
var listPrices = map[string]Prices{
	"aws":   {Currency: "USD", PerCall: 0.03 / 10_000, LogBytes: 1_800, PerLogGB: 0.50, CallsPerSecond: 2_500},
	"gcp":   {Currency: "USD", PerCall: 0.03 / 10_000, LogBytes: 1_500, PerLogGB: 0.50, CallsPerSecond: 250},
	"vault": {LogBytes: 2_500}, // request and response lines
}

// ListPrices are the usual prices of a provider by its [kmsencrypted.KeyInfo.Provider]: a
// beginning for an estimate, not an offer. One that is not known, such as a key
// file, is free.
func ListPrices(provider string) Prices { return listPrices[provider] }

// Cost is an estimate of what a run takes.
type Cost struct {
	Plan
	Requests int64 // fewer than calls where the service takes batches
	Price    float64
	Currency string
	// Duration is how long the calls take at the rate of the limiter, or of the
	// prices if there is none; 0 if nothing bounds them.
	Duration time.Duration
	LogBytes int64
	LogPrice float64
	// WALBytes is about what the database writes ahead: the table may grow by as
	// much until its vacuum follows.
	WALBytes int64
}

// walBytes of a row whose key column changes, as measured.
const walBytes = 1_100

// Cost estimates what a run would cost. It reads the table like [Rotator.Plan].
func (r *Rotator) Cost(ctx context.Context, p Prices) (Cost, error) {
	plan, err := r.plan(ctx)
	if err != nil {
		return Cost{}, r.failed("cost", err)
	}
	target, err := r.box.Version(plan.Target)
	if err != nil {
		return Cost{}, r.failed("cost", err)
	}
	size := perRequest(target.Provider)
	c := Cost{Plan: plan, Requests: (plan.Calls + int64(size) - 1) / int64(size), Currency: p.Currency, WALBytes: plan.Records * walBytes}
	c.Price = float64(c.Requests) * p.PerCall
	c.LogBytes = c.Requests * p.LogBytes
	c.LogPrice = float64(c.LogBytes) / 1e9 * p.PerLogGB
	rate := p.CallsPerSecond
	if limiter, ok := r.options.Calls.(interface{ Rate() float64 }); ok {
		rate = limiter.Rate()
	}
	if rate > 0 {
		c.Duration = time.Duration(float64(plan.Calls) / rate * float64(time.Second))
	}
	return c, nil
}

// perRequest is the number of values that a provider takes in one request.
// Several providers behind one take no batches.
func perRequest(p kmsencrypted.Provider) int {
	batch, ok := p.(kmsencrypted.BatchProvider)
	if _, several := p.(kmsencrypted.MultiWrapper); several || !ok {
		return 1
	}
	return max(batch.BatchSize(), 1)
}
