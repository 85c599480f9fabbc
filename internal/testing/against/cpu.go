package against

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// CPU compares what two functions that handle so many records cost this process:
// its CPU time, which includes collecting garbage and leaves out servers, and
// its allocations. "times" is the median of the quotients of consecutive turns. CPU
// fails if that is above most and there were enough rounds, which -benchtime 9x
// makes sure of.
func CPU(b *testing.B, records int, most float64, limit, ours func()) {
	const shortest, enough = 10 * time.Millisecond, 9
	limit() // connects and prepares statements
	ours()
	n := 1
	for cpuOf(n, limit) < shortest {
		n *= 2
	}
	var ratios []float64
	var limits, own []time.Duration
	for b.Loop() {
		var l, o time.Duration
		if len(ratios)%2 == 0 { // the second may pay for the garbage of the first
			l, o = cpuOf(n, limit), cpuOf(n, ours)
		} else {
			o, l = cpuOf(n, ours), cpuOf(n, limit)
		}
		limits, own = append(limits, l), append(own, o)
		ratios = append(ratios, float64(o)/float64(l))
	}
	slices.Sort(ratios)
	times := ratios[len(ratios)/2]
	limitTime, ownTime := median(limits, n*records), median(own, n*records)
	limitAllocs, ownAllocs := allocations(limit, n, records), allocations(ours, n, records)
	b.ReportMetric(times, "times")
	b.ReportMetric(limitTime, "limit-ns")
	b.ReportMetric(ownTime, "ours-ns")
	b.ReportMetric(limitAllocs, "limit-allocs")
	b.ReportMetric(ownAllocs, "ours-allocs")
	if len(ratios) >= enough && times > most { // a benchmark that failed has no metrics
		b.Errorf("ours takes %.2f times the limit, want at most %.2f: %.0f and %.0f ns, %.1f and %.1f allocations a record",
			times, most, ownTime, limitTime, ownAllocs, limitAllocs)
	}
}

// median returns the median of times for so many records each, in ns a record.
func median(times []time.Duration, records int) float64 {
	slices.Sort(times)
	return float64(times[len(times)/2]) / float64(records)
}

// cpuOf returns the CPU time of n runs.
func cpuOf(n int, f func()) time.Duration {
	start := processTime()
	for range n {
		f()
	}
	return processTime() - start
}

// allocations returns the average number of allocations for a record in n runs.
func allocations(f func(), n, records int) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n*records)
}
