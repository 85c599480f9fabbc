// Package goroutines detects goroutines that a test leaves behind. Only tests
// import it.
package goroutines

import (
	"runtime"
	"testing"
	"time"
)

// patience is how long goroutines may take to end.
const patience = 5 * time.Second

// Check counts the goroutines and returns a function that fails the test if there
// are more then. Call it after closing everything that the test started. The test
// must not run in parallel with others.
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
