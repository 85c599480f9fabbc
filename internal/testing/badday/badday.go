// Package badday gives a provider a thousand calls while its key service has
// trouble, for the tests of providers.
package badday

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
)

// Day is how long the trouble goes on and what users may notice of it.
type Day struct {
	Outage   time.Duration  // the trouble goes on for so long; 0 for ever
	Guard    *guard.Options // in front of the provider; nil for none
	Answered int64          // of the calls at least
	Requests float64        // for each call at most
}

// Service is a provider with the service behind it, which it reaches without a
// network.
type Service struct {
	kmsencrypted.Provider
	Ciphertext []byte // opens to Plaintext under Context
	Plaintext  []byte
	Context    kmsencrypted.BoundContext
	Requests   func() int          // that the service got so far
	Begin      func() (end func()) // the trouble
}

const (
	calls = 1000
	every = 20 * time.Millisecond
)

// Run makes the calls, one every 20 ms, under a clock of their own. It ends only
// when all their goroutines have. A call that is not answered has to fail by an
// error that may pass, and once the trouble is over all is well again.
func (d Day) Run(t *testing.T, open func(t *testing.T) Service) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		p := s.Provider
		if d.Guard != nil {
			p = guard.New(p, *d.Guard)
		}
		before := s.Requests()
		end := s.Begin()
		if d.Outage > 0 {
			time.AfterFunc(d.Outage, end)
		}
		var answered, failed atomic.Int64
		var callers sync.WaitGroup
		for range calls {
			callers.Go(func() {
				plaintext, err := p.Decrypt(t.Context(), s.Ciphertext, s.Context)
				switch {
				case err == nil && string(plaintext) == string(s.Plaintext):
					answered.Add(1)
				case err == nil:
					t.Errorf("a wrong answer: %q", plaintext)
				case plaintext != nil || !kmsencrypted.Retryable(err):
					t.Errorf("Decrypt = %q, %v, want an error that may pass", plaintext, err)
				default:
					failed.Add(1)
				}
			})
			time.Sleep(every)
		}
		callers.Wait()
		if got := answered.Load(); got < d.Answered || got+failed.Load() != calls {
			t.Errorf("%d of %d calls were answered, %d failed, want at least %d answered", got, calls, failed.Load(), d.Answered)
		}
		if got := float64(s.Requests()-before) / calls; got > d.Requests {
			t.Errorf("%.2f requests for a call, want at most %v", got, d.Requests)
		}
		end()
		time.Sleep(time.Minute)
		if plaintext, err := s.Decrypt(t.Context(), s.Ciphertext, s.Context); err != nil || string(plaintext) != string(s.Plaintext) {
			t.Errorf("after the trouble Decrypt = %q, %v", plaintext, err)
		}
	})
}
