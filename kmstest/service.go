package kmstest

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/intercept"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// Box returns a box with one native version under the insecure test key. It makes
// no network calls. Its key service has the given faults. The columns contain the
// data keys in plain.
func Box(t testing.TB, faults ...Fault) *kmsencrypted.Box {
	t.Helper()
	return NewService(nil, faults...).Box(t)
}

// Faulty returns a provider that behaves like the given one, with all its
// optional abilities, except for the faults.
func Faulty(provider kmsencrypted.Provider, faults ...Fault) kmsencrypted.Provider {
	return NewService(provider, faults...).Provider()
}

// Service is a key service under test control: it passes calls to a provider,
// makes them fail according to its faults, and records them. It is safe for
// concurrent use.
type Service struct {
	provider kmsencrypted.Provider

	mu     sync.Mutex
	faults []*armed
	calls  []Call
}

// Call is one request that a [Service] saw.
type Call struct {
	Op kmsencrypted.Op // "wrap", "unwrap", "rewrap" or "probe"
	// Contexts are the encryption contexts of the values in the request, as the
	// audit log of a key service shows them: several in a batch, none in a probe.
	Contexts []kmsencrypted.BoundContext
	Err      error // as the program saw it
}

// NewService returns a service in front of a provider; nil is the insecure test
// key. Others are [Memory], [Batches] and testkey.EncryptOnly.
func NewService(provider kmsencrypted.Provider, faults ...Fault) *Service {
	if provider == nil {
		provider = testkey.New()
	}
	s := new(Service)
	s.provider = intercept.Wrap(provider, nil, s.request)
	s.Set(faults...)
	return s
}

// Provider returns the provider to use in a [kmsencrypted.Config]. It has exactly
// the optional abilities of the inner provider.
func (s *Service) Provider() kmsencrypted.Provider { return s.provider }

// Box returns a box with one native version under the service.
func (s *Service) Box(t testing.TB) *kmsencrypted.Box {
	t.Helper()
	box, err := kmsencrypted.NewBox(s.provider)
	if err != nil {
		t.Fatalf("kmstest: %v", err)
	}
	return box
}

// Set replaces all faults and restarts their call counts. Without faults the
// service recovers. Calls in progress keep their faults.
func (s *Service) Set(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	for _, f := range faults {
		s.faults = append(s.faults, &armed{Fault: f})
	}
}

// Calls returns the requests that have ended, in that order.
func (s *Service) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Count returns the number of requests of one operation that have ended,
// successful or not.
func (s *Service) Count(op kmsencrypted.Op) int {
	n := 0
	for _, c := range s.Calls() {
		if c.Op == op {
			n++
		}
	}
	return n
}

// Values is how many values were in these requests: more than [Service.Count] if
// there were batches.
func (s *Service) Values(op kmsencrypted.Op) int {
	n := 0
	for _, c := range s.Calls() {
		if c.Op == op {
			n += len(c.Contexts)
		}
	}
	return n
}

// Forget empties the record of calls.
func (s *Service) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

// request applies the faults to a call, the first one outermost.
func (s *Service) request(ctx context.Context, call *intercept.Call, next func(context.Context) error) error {
	s.mu.Lock()
	struck := make([]Fault, 0, len(s.faults))
	for _, f := range s.faults {
		if f.strikes(call.Op) {
			struck = append(struck, f.Fault)
		}
	}
	s.mu.Unlock()
	err := attempted(ctx, func(ctx context.Context) error { return s.suffer(ctx, call, next, struck) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, Call{call.Op, call.Contexts, err})
	return err
}

// attempted counts a request as one attempt, unless the provider behind counts its
// attempts itself.
func attempted(ctx context.Context, request func(context.Context) error) error {
	observer := func(_ context.Context, e kmsencrypted.Event) {
		if e.Attempts == 0 {
			kmsencrypted.Attempted(ctx)
		}
	}
	return kmsencrypted.Observer(observer).Observe(ctx, func() kmsencrypted.Event { return kmsencrypted.Event{} }, request)
}

func (s *Service) suffer(ctx context.Context, call *intercept.Call, next func(context.Context) error, faults []Fault) error {
	for _, f := range faults {
		if err := f.before(ctx); err != nil {
			return s.failed(call.Op, err)
		}
	}
	if err := next(ctx); err != nil {
		return err
	}
	for _, f := range faults {
		for _, answer := range call.Answers {
			f.after(answer)
		}
	}
	return nil
}

func (s *Service) failed(op kmsencrypted.Op, err error) error {
	info := s.provider.Info()
	return &kmsencrypted.Error{Op: string(op), Provider: info.Provider, KeyID: info.KeyID, Err: err}
}
