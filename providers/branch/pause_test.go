package branch

import (
	"testing"
	"time"
)

// A wait ends when both clocks say so. One on the wall that is set back cannot make it endless.
func TestPassed(t *testing.T) {
	t.Parallel()
	const d = time.Minute
	for _, c := range []struct {
		name            string
		monotonic, wall time.Duration
		want            bool
	}{
		{"neither", d - 1, d - 1, false},
		{"both", d, d, true},
		{"the wall was set forward", time.Second, time.Hour, false},
		{"the wall lags", d, d - time.Second, false},
		{"the wall was set back", 2 * d, -time.Hour, true},
		{"the machine slept", d - 1, time.Hour, false},
	} {
		if got := passed(d, c.monotonic, c.wall); got != c.want {
			t.Errorf("%s: passed(%v, %v) = %v, want %v", c.name, c.monotonic, c.wall, got, c.want)
		}
	}
}
