package programs

import (
	"errors"
	"flag"
	"fmt"
	"testing"
)

var (
	firstSeed = flag.Uint64("seed", 1, "the seed of the first program on each database")
	howMany   = flag.Int("programs", 25, "the number of programs on all databases together")
)

// TestPrograms runs random programs on every database.
func TestPrograms(t *testing.T) {
	all := servers()
	for i, s := range all {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			n := *howMany / len(all)
			if i < *howMany%len(all) {
				n++
			}
			runPrograms(t, s, *firstSeed, max(n, 1))
		})
	}
}

// enough programs that fail on one database tell what is wrong.
const enough = 5

func runPrograms(t *testing.T, s server, seed uint64, n int) {
	e, sum := s.open(t), newCounts()
	failed := 0
	for seed := seed; seed < *firstSeed+uint64(n) && failed < enough; seed++ {
		p := newProgram(s, seed)
		err := e.execute(p, sum)
		sum.programs++
		if l := (lost{}); errors.As(err, &l) {
			failed++
			report(t, e, p, seed, l)
		} else if err != nil {
			t.Fatalf("seed %d: %v\n%v", seed, err, p)
		}
	}
	fmt.Printf("counted: %s: seeds from %d: %v\n", t.Name(), seed, sum) // see .ci/run
}

// report prints a program that failed, as short as it can be.
func report(t *testing.T, e *environment, p program, seed uint64, l lost) {
	t.Helper()
	short, why := shrunk(e, p, l)
	t.Errorf("seed %d: %v\n%v", seed, why, short)
}

func shrunk(e *environment, p program, l lost) (program, lost) {
	why := l
	short := shrink(p, func(p program) bool {
		now := lost{}
		fails := errors.As(e.execute(p, newCounts()), &now)
		if fails {
			why = now
		}
		return fails
	})
	return short, why
}
