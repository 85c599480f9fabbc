// Package against compares the time of two functions in a benchmark.
package against

import (
	"slices"
	"testing"
	"time"
)

// Limit runs limit and ours by themselves first, then in turns. "times" is the
// 10th percentile of the quotients of their times: other load on the machine
// only adds to a time, and the minimum is luck. Limit fails if that is above
// most and there were enough rounds to meet a quiet moment.
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
		turn := turns(limit)
		var limits, own []time.Duration
		for b.Loop() {
			// The second may pay for the garbage of the first.
			if len(own)%2 == 0 {
				limits, own = append(limits, timed(turn, limit)), append(own, timed(turn, ours))
			} else {
				own, limits = append(own, timed(turn, ours)), append(limits, timed(turn, limit))
			}
		}
		times := float64(quiet(own)) / float64(quiet(limits))
		b.ReportMetric(times, "times")
		b.ReportMetric(float64(quiet(limits)), "limit-ns")
		b.ReportMetric(float64(quiet(own)), "ours-ns")
		const enough = 9
		if len(own) >= enough && times > most {
			b.Errorf("ours takes %.3f times the limit, want at most %.3f", times, most)
		}
	})
}

// turns returns how often a function must run for the clock to measure it.
func turns(f func()) int {
	const shortest, tries = 100 * time.Microsecond, 5
	n := 1
	for range 20 {
		var times []time.Duration
		for range tries {
			times = append(times, timed(n, f))
		}
		if quiet(times) >= shortest/time.Duration(n) {
			break
		}
		n *= 2
	}
	return n
}

// timed returns the average time of a run.
func timed(n int, f func()) time.Duration {
	start := time.Now()
	for range n {
		f()
	}
	return time.Since(start) / time.Duration(n)
}

// quiet returns the 10th percentile of the times.
func quiet(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/10]
}
