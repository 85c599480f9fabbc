package against

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// AES-GCM of the standard library spills counters to the stack in its innermost
// loop. If their addresses coincide with the key tables modulo 4096, it is up to a
// fifth slower. So a measurement at one stack depth says nothing, and Pair and
// PairCores measure at many.

// depths is the number of stack depths, apart the distance between consecutive
// ones. They have no common divisor, so that all depths occur.
const (
	depths = 31
	apart  = 7
)

// atDepth calls f with n more steps of 136 bytes on the stack.
//
//go:noinline
func atDepth(n int, f func()) {
	var pad [96]byte
	if n > 0 {
		atDepth(n-1, f)
	} else {
		f()
	}
	pad[n%len(pad)]++
}

// Pair runs both functions in turns, each at the same changing stack depths, and
// reports the median of first time / second time as unit. So other load on the
// machine affects both. It measures the CPU time of the thread; for work on
// several cores use PairCores.
func Pair(b *testing.B, unit string, first, second func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pair(b, unit, threadTime, first, second)
}

// PairCores is like Pair for work on several cores: it measures wall time.
func PairCores(b *testing.B, unit string, first, second func()) {
	start := time.Now()
	pair(b, unit, func() time.Duration { return time.Since(start) }, first, second)
}

func pair(b *testing.B, unit string, clock func() time.Duration, first, second func()) {
	elapsed := func(depth int, f func()) float64 {
		start := clock()
		atDepth(depth, f)
		return float64(clock() - start)
	}
	var ratios []float64
	for depth := 0; b.Loop(); depth = (depth + apart) % depths {
		ratios = append(ratios, elapsed(depth, first)/elapsed(depth, second))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], unit)
}
