// Package badday makes a thousand calls to a provider while its key service has
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

// Day describes how long the trouble lasts and what users may notice.
type Day struct {
	Outage   time.Duration  // duration of the trouble; 0 means for ever
	Guard    *guard.Options // in front of the provider; nil for none
	Answered int64          // minimum number of answered calls
	Requests float64        // maximum number of requests per call
}

// Service is a provider with its key service, which it reaches without a network.
type Service struct {
	kmsencrypted.Provider
	Ciphertext []byte // opens to Plaintext under Context
	Plaintext  []byte
	Context    kmsencrypted.BoundContext
	Requests   func() int          // number of requests that the service has received
	Begin      func() (end func()) // starts the trouble
}

const (
	calls = 1000
	every = 20 * time.Millisecond
)

// Run makes the calls, one every 20 ms, under a fake clock. It ends only when all
// their goroutines have. A call that is not answered must fail with a retryable
// error, and after the trouble everything must work again.
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
