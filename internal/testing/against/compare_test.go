package against

import (
	"crypto/sha256"
	"testing"
	"time"
)

// What does three times the work takes three times as long, also if another
// goroutine does it.
func TestCompare(t *testing.T) {
	block := make([]byte, 1<<16)
	hash := func(n int) func() {
		return func() {
			for range n {
				sha256.Sum256(block)
			}
		}
	}
	elsewhere := func() {
		done := make(chan struct{})
		go func() {
			hash(30)()
			close(done)
		}()
		<-done
	}
	for name, first := range map[string]func(){"here": hash(30), "on a goroutine": elsewhere} {
		c := Compare(100*time.Millisecond, first, hash(10))
		if c.Low > c.Median || c.Median > c.High || c.Median < 2.5 || c.Median > 3.5 {
			t.Errorf("%s: %+v, want about 3", name, c)
		}
		if c.First < 2*c.Second || c.Second <= 0 {
			t.Errorf("%s: times %v and %v", name, c.First, c.Second)
		}
	}
}
