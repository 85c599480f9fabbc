// Package against compares the time of two functions in a benchmark.
package against

import (
	"slices"
	"testing"
	"time"
)

// Limit runs limit and ours by themselves, then in turns: "times" is the
// quotient of times that a tenth of the rounds stays below, since whatever else
// the machine does only adds to a time, and the very least is luck. It fails
// above most, if there were rounds enough to meet a quiet moment.
func Limit(b *testing.B, most float64, limit, ours func()) {
	alone := func(f func()) func(b *testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		}
	}
	b.Run("limit", alone(limit))
	b.Run("ours", alone(ours))
	b.Run("ratio", func(b *testing.B) {
		var limits, own []time.Duration
		for b.Loop() {
			// Whoever comes second may pay for the garbage of the first.
			if len(own)%2 == 0 {
				limits, own = append(limits, timed(limit)), append(own, timed(ours))
			} else {
				own, limits = append(own, timed(ours)), append(limits, timed(limit))
			}
		}
		times := float64(quiet(own)) / float64(quiet(limits))
		b.ReportMetric(times, "times")
		const enough = 9
		if len(own) >= enough && times > most {
			b.Errorf("ours takes %.3f times the limit, want at most %.3f", times, most)
		}
	})
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// quiet is what a tenth of the times stays below.
func quiet(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/10]
}
