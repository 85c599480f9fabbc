package goroutines_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/goroutines"
)

// failing notes failures instead of failing.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Helper()               {}
func (f *failing) Errorf(string, ...any) { f.failed = true }

func TestCheck(t *testing.T) {
	clean := &failing{TB: t}
	left := goroutines.Check(clean)
	ended := make(chan struct{})
	go close(ended)
	<-ended
	if left(); clean.failed {
		t.Error("a goroutine that has ended is reported")
	}
	leaky := &failing{TB: t}
	left = goroutines.Check(leaky)
	stay := make(chan struct{})
	go func() { <-stay }()
	if left(); !leaky.failed {
		t.Error("a goroutine that stays is not noticed")
	}
	close(stay)
}
