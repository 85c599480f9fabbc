// Package goroutines notices goroutines that a test leaves behind. Only tests
// import it.
package goroutines

import (
	"runtime"
	"testing"
	"time"
)

// patience is how long goroutines may take to end after what they served has.
const patience = 5 * time.Second

// Check remembers how many goroutines there are and returns the function that
// fails the test if more of them are left: to be called once everything that the
// test started is closed. The test must not run in parallel with others.
func Check(t testing.TB) (left func()) {
	before := runtime.NumGoroutine()
	return func() {
		t.Helper()
		var after int
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if after = runtime.NumGoroutine(); after <= before {
				return
			}
		}
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before:\n%s", after, before, stacks[:runtime.Stack(stacks, true)])
	}
}
