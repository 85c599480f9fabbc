package bench

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// atDepth calls f with n steps of 136 bytes more on the stack. The assembly of
// AES-GCM spills to the stack; where that meets the key tables modulo 4096 it is
// up to a fifth slower, so a figure of one depth says nothing.
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

// pair measures both in turns, each at the same changing depths, and reports the
// median of first time / second time. So whatever else the machine does concerns
// both. Time is that of the thread; what works on several cores is measured by
// pairWall.
func pair(b *testing.B, unit string, first, second func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	elapsed := func(depth int, f func()) float64 {
		start := threadTime()
		atDepth(depth, f)
		return float64(threadTime() - start)
	}
	var ratios []float64
	depth := 0
	for b.Loop() {
		depth = (depth + 7) % 31
		ratios = append(ratios, elapsed(depth, first)/elapsed(depth, second))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], unit)
}

// pairWall is for work on several cores. It reports the ratio of the shortest
// times, those in which nobody else had a core.
func pairWall(b *testing.B, unit string, first, second func()) {
	shortest := [2]time.Duration{1 << 62, 1 << 62}
	depth := 0
	for b.Loop() {
		depth = (depth + 7) % 31
		for i, f := range []func(){first, second} {
			start := time.Now()
			atDepth(depth, f)
			shortest[i] = min(shortest[i], time.Since(start))
		}
	}
	b.ReportMetric(float64(shortest[0])/float64(shortest[1]), unit)
}
