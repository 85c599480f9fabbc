package keyvault

import (
	"context"
	"slices"
	"time"
)

// Fault changes how operations are answered. Its zero value changes nothing.
type Fault struct {
	Operation string // the operation affected; empty means all
	Times     int    // number of operations affected; 0 means all until the fault is removed
	Delay     time.Duration
	Hang      bool // no answer until the client gives up
	Status    int  // answer with this status, and the code and inner code below
	Code      string
	Inner     string
}

// Inject adds a fault and returns the function that removes it. If several affect
// an operation, the first is used.
func (s *Server) Inject(f Fault) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	injected := &f
	s.faults = append(s.faults, injected)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(injected)
	}
}

func (s *Server) drop(f *Fault) {
	s.faults = slices.DeleteFunc(s.faults, func(o *Fault) bool { return o == f })
}

func (s *Server) fault(operation string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Operation != "" && f.Operation != operation {
			continue
		}
		met := *f
		if f.Times == 1 {
			s.drop(f)
		} else if f.Times > 1 {
			f.Times--
		}
		return met
	}
	return Fault{}
}

func (f Fault) before(ctx context.Context) error {
	if f.Hang {
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case <-time.After(f.Delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	if f.Status != 0 {
		return refusal{f.Status, f.Code, f.Inner}
	}
	return nil
}
