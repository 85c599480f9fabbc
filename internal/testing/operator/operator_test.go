package operator

import (
	"errors"
	"flag"
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/race"
)

var (
	firstSeed = flag.Uint64("seed", 1, "the seed of the first program on each database")
	howMany   = flag.Int("programs", usual(), "the number of programs on all databases together")
)

// usual is fewer under the race detector, which makes a program ten times as long.
func usual() int {
	if race.Detector {
		return 10
	}
	return 60
}

// TestOperator runs random programs on every database.
func TestOperator(t *testing.T) {
	all := servers()
	for i, s := range all {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			n := *howMany / len(all)
			if i < *howMany%len(all) {
				n++
			}
			runPrograms(t, s, max(n, 1))
		})
	}
}

// enough programs that fail on one database tell what is wrong.
const enough = 3

func runPrograms(t *testing.T, s server, n int) {
	w := s.open(t)
	failed := 0
	for seed := *firstSeed; seed < *firstSeed+uint64(n) && failed < enough; seed++ {
		p := newProgram(s, seed)
		err := w.execute(p)
		if l := (wrong{}); errors.As(err, &l) {
			failed++
			short, why := shrunk(w, p, l)
			t.Errorf("seed %d: %v\n%v", seed, why, short)
		} else if err != nil {
			t.Fatalf("seed %d: %v\n%v", seed, err, p)
		}
		w.count.programs++
	}
	fmt.Printf("counted: %s: seeds from %d: %v\n", t.Name(), *firstSeed, w.count) // see .ci/run
	w.count.check(t, n)
}

// shrunk leaves out steps for as long as the program fails.
func shrunk(w *world, p program, why wrong) (program, wrong) {
	const tries = 150
	for size, tried := max(len(p)/2, 1), 0; tried < tries; {
		shorter := false
		for from := 0; from < len(p) && tried < tries; tried++ {
			less := append(append(program{}, p[:from]...), p[min(from+size, len(p)):]...)
			now := wrong{}
			if errors.As(w.execute(less), &now) {
				p, why, shorter = less, now, true
			} else {
				from += size
			}
		}
		if size == 1 && !shorter {
			break
		}
		size = max(size/2, 1)
	}
	return p, why
}
