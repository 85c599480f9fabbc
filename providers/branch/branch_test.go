package branch_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
)

// newService returns a key service with a key of its own.
func newService(t testing.TB) *kmstest.Service {
	t.Helper()
	p, err := local.Create(filepath.Join(t.TempDir(), "kms.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return kmstest.NewService(p)
}

func open(t testing.TB, store branch.Store, service *kmstest.Service, o branch.Options) *branch.Provider {
	t.Helper()
	p, err := branch.Open(t.Context(), store, service.Box(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func bind(t testing.TB, ec kmsencrypted.EncryptionContext) kmsencrypted.BoundContext {
	t.Helper()
	bound, err := kmsencrypted.Bind(ec)
	if err != nil {
		t.Fatal(err)
	}
	return bound
}

// The suite of all providers. What happens to the key service happens to branches that are
// not open: MaxAge is a nanosecond.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]branch.NameFunc{
		"top": branch.Single("all"),
		"nested": func(kmsencrypted.BoundContext) (branch.Name, error) {
			return branch.Name{Parent: "acme", Branch: "all"}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachStoreOf(t, func(t *testing.T, newStore func(t *testing.T) branch.Store) {
				providertest.Run(t, harness(newStore, of))
			})
		})
	}
}

func harness(newStore func(t *testing.T) branch.Store, of branch.NameFunc) providertest.Harness {
	set := func(service *kmstest.Service, faults ...kmstest.Fault) func(*testing.T) {
		return func(*testing.T) { service.Set(faults...) }
	}
	return providertest.Harness{
		Open: func(t *testing.T) providertest.Key {
			service := newService(t)
			p := open(t, newStore(t), service, branch.Options{Of: of, MaxAge: 1})
			other := open(t, newStore(t), service, branch.Options{Of: of})
			name, err := of(kmsencrypted.BoundContext{})
			if err == nil {
				err = errors.Join(p.Ensure(t.Context(), name), other.Ensure(t.Context(), name))
			}
			if err != nil {
				t.Fatal(err)
			}
			return providertest.Key{
				Provider: p, Other: other,
				Rotate: func(t *testing.T) {
					if _, err := p.Renew(t.Context(), name); err != nil {
						t.Fatal(err)
					}
				},
				Disable:   set(service, kmstest.Fail(kmsencrypted.ErrKeyUnusable, 1)),
				Throttle:  set(service, kmstest.Throttle(1)),
				Interrupt: set(service, kmstest.Unavailable(1)),
				Hang:      set(service, kmstest.Hang(1)),
			}
		},
		Lacks: map[string]string{
			"Missing":     "see TestMissing: it is a row that is missing, and may come back",
			"DenyEncrypt": "who may wrap under a branch key may unwrap",
			"DenyDecrypt": "who may not unwrap a branch key cannot wrap under it",
		},
	}
}
