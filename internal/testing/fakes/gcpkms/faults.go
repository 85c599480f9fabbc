package gcpkms

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Fault changes how calls are answered. Its zero value changes nothing.
type Fault struct {
	Method string  // the method affected; empty means all
	Times  int     // number of calls affected; 0 means all until the fault is removed
	Share  float64 // share of these calls, at random; 0 means all

	Delay time.Duration
	Hang  bool       // no answer until the client gives up
	Code  codes.Code // answer with this code

	// Damage in transit, which clients detect by checksums.
	CorruptRequest bool // flip a bit of the plaintext or ciphertext sent
	CorruptAnswer  bool // flip a bit of the ciphertext or plaintext in the answer
	DropChecksum   bool // the answer has no checksum
	DropVerified   bool // the answer does not confirm the request's checksums
	OtherKey       bool // the answer to Encrypt names another key
}

// Inject adds a fault and returns the function that removes it. If several
// affect a call, the first is used.
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

// nextFault counts the use of the fault that it returns.
func (s *Server) nextFault(method string) Fault {
	for _, f := range s.faults {
		if f.Method != "" && f.Method != method || f.Share > 0 && rand.Float64() >= f.Share {
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

func (f Fault) before(ctx context.Context, request proto.Message) error {
	select {
	case <-time.After(f.Delay):
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	if f.Hang {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	if f.Code != codes.OK {
		return status.Error(f.Code, "injected by the test")
	}
	if f.CorruptRequest {
		switch r := request.(type) {
		case *kmspb.EncryptRequest:
			flip(r.Plaintext)
		case *kmspb.DecryptRequest:
			flip(r.Ciphertext)
		}
	}
	return nil
}

func (f Fault) after(answer any) {
	switch a := answer.(type) {
	case *kmspb.EncryptResponse:
		if f.CorruptAnswer {
			flip(a.Ciphertext)
		}
		if f.DropChecksum {
			a.CiphertextCrc32C = nil
		}
		if f.DropVerified {
			a.VerifiedPlaintextCrc32C, a.VerifiedAdditionalAuthenticatedDataCrc32C = false, false
		}
		if f.OtherKey {
			a.Name = "projects/other/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
		}
	case *kmspb.DecryptResponse:
		if f.CorruptAnswer {
			flip(a.Plaintext)
		}
		if f.DropChecksum {
			a.PlaintextCrc32C = nil
		}
	}
}

func flip(data []byte) {
	if len(data) > 0 {
		data[len(data)/2] ^= 1
	}
}
