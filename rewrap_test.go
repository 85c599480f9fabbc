package kmsencrypted_test

import (
	"context"
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// rewrapper is a service that rewraps what another one of its kind wrapped.
type rewrapper struct {
	*service
	rewraps int
}

func (r *rewrapper) Rewrap(ctx context.Context, from kmsencrypted.Wrapped, source kmsencrypted.Provider, to kmsencrypted.BoundContext) ([]byte, error) {
	old, ok := source.(*rewrapper)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	r.rewraps++
	plaintext, err := old.service.Provider.Decrypt(ctx, from.Ciphertext, from.Context)
	if err != nil {
		return nil, err
	}
	return r.service.Provider.Encrypt(ctx, plaintext, to)
}

func TestRewrap(t *testing.T) {
	byID := kmsencrypted.VersionedContext(func(version int) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"id": 7}, nil
	})
	byVersion := kmsencrypted.VersionedContext(func(version int) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"version": version}, nil
	})
	ruby := kmsencrypted.Version{Format: kmsencrypted.Ruby}
	for name, c := range map[string]struct {
		from, to kmsencrypted.Version
		context  kmsencrypted.EncryptionContext
		foreign  bool  // version 1 is under another kind of service
		inside   int   // rewraps inside the service
		unwraps  int64 // otherwise
	}{
		"native":                  {context: byID, inside: 1},
		"native, another context": {context: byVersion, unwraps: 1},
		"native, another kind":    {context: byID, foreign: true, unwraps: 1},
		"native, id left out":     {to: kmsencrypted.Version{OmitID: true}, context: byID, unwraps: 1},
		"Ruby":                    {from: ruby, to: ruby, context: byID, inside: 1},
		"Ruby, another context":   {from: ruby, to: ruby, context: byVersion, inside: 1},
		"Ruby, another kind":      {from: ruby, to: ruby, context: byVersion, foreign: true, unwraps: 1},
		"native, a seal dropped":  {from: kmsencrypted.Version{RecordSeal: true}, context: byID, unwraps: 1},
	} {
		t.Run(name, func(t *testing.T) {
			old, current := newService(t), &rewrapper{service: newService(t)}
			c.from.Provider, c.to.Provider = &rewrapper{service: old}, current
			if c.foreign {
				c.from.Provider = old
			}
			versions := map[int]kmsencrypted.Version{1: c.from, 2: c.to}
			before := newBox(t, kmsencrypted.Config{Current: 1, Versions: versions})
			after := newBox(t, kmsencrypted.Config{Current: 2, Versions: versions})

			k := kmsencrypted.NewDataKey()
			binding := kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{"7"}, Context: c.context}
			column, err := before.Wrap(t.Context(), k, binding)
			if err != nil {
				t.Fatal(err)
			}
			if c.from.RecordSeal {
				column = withSeal(t, column)
			}
			rewrapped, err := after.Rewrap(t.Context(), column, binding)
			if err != nil {
				t.Fatal(err)
			}
			if current.rewraps != c.inside {
				t.Errorf("%d rewraps inside the service, want %d", current.rewraps, c.inside)
			}
			old.wantCalls(t, "unwraps", c.unwraps)
			if kmsencrypted.ColumnVersion(rewrapped) != 2 {
				t.Errorf("Rewrap gives %.6q…, want version 2", rewrapped)
			}
			if got := unwrap(t, after, kmsencrypted.WrappedKey{Column: rewrapped, Binding: binding}); !got.Equal(k) {
				t.Error("Rewrap changes the data key")
			}
		})
	}
}

// Whatever rewraps, a column is not accepted under another context.
func TestRewrapRefuses(t *testing.T) {
	for _, format := range []kmsencrypted.Format{kmsencrypted.Native, kmsencrypted.Ruby} {
		provider := &rewrapper{service: newService(t)}
		box := newBox(t, kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{
			1: {Provider: provider, Format: kmsencrypted.Ruby - format},
			2: {Provider: provider, Format: format},
		}})
		binding := kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{"7"}, Context: kmsencrypted.Context{"id": 7}}
		column, err := box.Wrap(t.Context(), kmsencrypted.NewDataKey(), binding)
		if err != nil {
			t.Fatal(err)
		}
		binding.Context = kmsencrypted.Context{"id": 8}
		_, err = box.Rewrap(t.Context(), column, binding)
		if e, ok := errors.AsType[*kmsencrypted.Error](err); !ok || !errors.Is(err, kmsencrypted.ErrDecrypt) || e.Op != "rewrap" || e.Provider != "local" {
			t.Errorf("%v under another context: %v, want ErrDecrypt of rewrap with local", format, err)
		}
		provider.wantCalls(t, "unwraps after a refusal to rewrap", 0)
		other := newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: provider, Format: kmsencrypted.Ruby - format}}})
		column, err = other.Wrap(t.Context(), kmsencrypted.NewDataKey(), binding)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := box.Rewrap(t.Context(), column, binding); !errors.Is(err, kmsencrypted.ErrNeedsRekey) {
			t.Errorf("to %v: %v, want ErrNeedsRekey", format, err)
		}
	}
}
