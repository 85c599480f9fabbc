package rotation

import (
	"context"
	"time"
)

// Prices are the costs of a key service and its audit log. The zero value is free.
type Prices struct {
	Currency string  // "USD"
	PerCall  float64 // one request to the key service
	// LogBytes is how many bytes a request adds to the audit log. PerLogGB is the price of
	// storing 10^9 bytes of it.
	LogBytes int64
	PerLogGB float64
	// CallsPerSecond is a rate that leaves enough for production: a quarter of the
	// service's usual quota. 0 means that the service sets no quota.
	CallsPerSecond float64
}

// listPrices holds list prices of 2025 by provider. They differ by region and contract. A
// log that is kept only where that is free costs nothing.
var listPrices = map[string]Prices{
	"aws":   {Currency: "USD", PerCall: 0.03 / 10_000, LogBytes: 1_800, PerLogGB: 0.50, CallsPerSecond: 2_500},
	"gcp":   {Currency: "USD", PerCall: 0.03 / 10_000, LogBytes: 1_500, PerLogGB: 0.50, CallsPerSecond: 250},
	"vault": {LogBytes: 2_500}, // request and response lines
}

// ListPrices returns the usual prices of a provider by its
// [kmsencrypted.KeyInfo.Provider], as a starting point for an estimate. An unknown
// provider, such as a key file, is free.
func ListPrices(provider string) Prices { return listPrices[provider] }

// Cost is an estimate for a run.
type Cost struct {
	Plan
	Price    float64
	Currency string
	// Duration is the time for the calls at the rate of the limiter, or at that of the
	// prices if there is no limiter; 0 if there is no limit.
	Duration time.Duration
	LogBytes int64
	LogPrice float64
	// WALBytes is roughly the size of the database's write-ahead log for the run. The
	// table may grow by as much until its vacuum follows.
	WALBytes int64
}

// walBytes is the measured size for a row whose key column changes.
const walBytes = 1_100

// Cost estimates the cost of a run. It reads the table like [Rotator.Plan].
func (r *Rotator) Cost(ctx context.Context, p Prices) (Cost, error) { return r.cost(ctx, p, false) }

// CostAbout is like [Rotator.Cost], and takes a second for a table of any size: it does
// not count the records if the store has a method About(context.Context)
// ([]VersionCount, bool, error) that estimates how many there are of each version. Then
// About is true, and a version that few records have may be missing. The records of a
// part of the table, those for other kinds than [Rewrap] and [Rekey], and those of small
// tables are counted.
func (r *Rotator) CostAbout(ctx context.Context, p Prices) (Cost, error) { return r.cost(ctx, p, true) }

func (r *Rotator) cost(ctx context.Context, p Prices, about bool) (Cost, error) {
	plan, err := r.plan(ctx, about)
	if err != nil {
		return Cost{}, r.failed("cost", err)
	}
	c := Cost{Plan: plan, Currency: p.Currency, WALBytes: plan.Records * walBytes}
	c.Price = float64(c.Calls) * p.PerCall
	c.LogBytes = c.Calls * p.LogBytes
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
