package against

import (
	"runtime"
	"slices"
	"time"
)

// Comparison is what [Compare] found: the quartiles of the quotients of the first
// time and the second one, and the median times of one call.
type Comparison struct {
	Low, Median, High float64
	First, Second     time.Duration
}

// long is how long a turn takes, so that it contains work of the garbage collector.
const long = 10 * time.Millisecond

// Compare runs both functions in turns of several calls for as long as budget, but
// at every stack depth at least once. It measures the CPU time of the process: other
// load on the machine hardly counts, but goroutines and the garbage collector do.
func Compare(budget time.Duration, first, second func()) Comparison {
	sides := [2]side{newSide(first), newSide(second)}
	var ratios []float64
	for start, depth := time.Now(), 0; len(ratios) < depths || time.Since(start) < budget; depth = (depth + apart) % depths {
		order := [2]int{0, 1}
		if len(ratios)%2 == 1 {
			order = [2]int{1, 0}
		}
		for _, i := range order {
			sides[i].turn(depth)
		}
		ratios = append(ratios, sides[0].last()/sides[1].last())
	}
	slices.Sort(ratios)
	quarter := func(n int) float64 { return ratios[(len(ratios)-1)*n/4] }
	return Comparison{quarter(1), quarter(2), quarter(3), sides[0].median(), sides[1].median()}
}

// side is a function with the times of its calls in nanoseconds.
type side struct {
	f     func()
	calls int // in a turn
	times []float64
}

func newSide(f func()) side {
	s := side{f: f, calls: 1}
	for {
		start := processTime()
		s.repeat()
		if took := processTime() - start; took >= long/2 {
			s.calls = max(1, int(float64(s.calls)*float64(long)/float64(took)))
			return s
		}
		s.calls *= 2
	}
}

func (s *side) repeat() {
	for range s.calls {
		s.f()
	}
}

func (s *side) turn(depth int) {
	runtime.GC() // of the garbage of the other side
	start := processTime()
	atDepth(depth, s.repeat)
	s.times = append(s.times, float64(processTime()-start)/float64(s.calls))
}

func (s *side) last() float64 { return s.times[len(s.times)-1] }

func (s *side) median() time.Duration {
	slices.Sort(s.times)
	return time.Duration(s.times[len(s.times)/2])
}
