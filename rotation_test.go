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

// batchRewrapper is a rewrapper that takes batches of 25.
type batchRewrapper struct {
	*batcher
	inner   *rewrapper
	batches int
	refuses func(item kmsencrypted.Rewrapping) error
}

func newBatchRewrapper(t *testing.T) *batchRewrapper {
	s := newService(t)
	return &batchRewrapper{batcher: &batcher{service: s}, inner: &rewrapper{service: s}}
}

func (b *batchRewrapper) Rewrap(ctx context.Context, from kmsencrypted.Wrapped, source kmsencrypted.Provider, to kmsencrypted.BoundContext) ([]byte, error) {
	if err := b.refused(kmsencrypted.Rewrapping{From: from, To: to}); err != nil {
		return nil, err
	}
	return b.inner.Rewrap(ctx, from, source.(*batchRewrapper).inner, to)
}

func (b *batchRewrapper) refused(item kmsencrypted.Rewrapping) error {
	if b.refuses == nil {
		return nil
	}
	return b.refuses(item)
}

func (b *batchRewrapper) RewrapBatch(ctx context.Context, items []kmsencrypted.Rewrapping, source kmsencrypted.Provider) ([]kmsencrypted.Result, error) {
	if err := b.refused(kmsencrypted.Rewrapping{}); err != nil {
		return nil, err
	}
	b.batches++
	results := make([]kmsencrypted.Result, len(items))
	for i, item := range items {
		results[i].Bytes, results[i].Err = b.Rewrap(ctx, item.From, source, item.To)
	}
	b.inner.rewraps = 0
	return results, nil
}

// two versions, and 60 columns of the first with the keys in them.
func rewrapSetup(t *testing.T, p kmsencrypted.Provider, observer kmsencrypted.Observer) (*kmsencrypted.Box, []kmsencrypted.WrappedKey, []kmsencrypted.DataKey) {
	t.Helper()
	versions := map[int]kmsencrypted.Version{1: {Provider: p}, 2: {Provider: p}}
	columns := wrapped(t, newBox(t, kmsencrypted.Config{Current: 1, Versions: versions}), 60)
	box := newBox(t, kmsencrypted.Config{Current: 2, Concurrency: 1, Versions: versions, Observer: observer})
	keys := make([]kmsencrypted.DataKey, len(columns))
	for i, c := range columns {
		keys[i] = unwrap(t, box, c)
	}
	return box, columns, keys
}

func TestRewrapAllInBatches(t *testing.T) {
	b := newBatchRewrapper(t)
	var events []kmsencrypted.Event
	box, columns, keys := rewrapSetup(t, b, func(_ context.Context, e kmsencrypted.Event) { events = append(events, e) })
	columns[7].Binding.Context = kmsencrypted.Context{"id": "another"}
	columns[9].Column = "v3:AAAA"
	b.calls.Store(0)
	b.requests.Store(0)
	events = nil
	for i, r := range box.RewrapAll(t.Context(), columns) {
		switch {
		case i == 7:
			if !errors.Is(r.Err, kmsencrypted.ErrDecrypt) {
				t.Errorf("column %d under another context: %v", i, r.Err)
			}
		case i == 9:
			if !errors.Is(r.Err, kmsencrypted.ErrVersionNotActive) {
				t.Errorf("column %d of an unknown version: %v", i, r.Err)
			}
		case r.Err != nil || kmsencrypted.ColumnVersion(r.Column) != 2:
			t.Errorf("column %d = %.8q…, %v, want version 2", i, r.Column, r.Err)
		default:
			if k := unwrap(t, box, kmsencrypted.WrappedKey{Column: r.Column, Binding: columns[i].Binding}); !k.Equal(keys[i]) {
				t.Errorf("column %d holds another key", i)
			}
		}
	}
	if b.batches != 3 || b.requests.Load() != 0 {
		t.Errorf("%d batches of rewraps and %d others, want 3 and none", b.batches, b.requests.Load())
	}
	values := 0
	for _, e := range events {
		if e.Op == kmsencrypted.OpRewrap {
			values += e.Count
		}
	}
	if values != 59 {
		t.Errorf("the observer saw rewraps of %d values, want 59", values)
	}
}

// What the service does not move inside is unwrapped and wrapped.
func TestRewrapAllFallsBack(t *testing.T) {
	for name, c := range map[string]struct {
		refuses func(kmsencrypted.Rewrapping) error
		unwraps int64 // requests, of up to 25 keys
		rewraps int
	}{
		"one context": {func(i kmsencrypted.Rewrapping) error {
			if i.To.String() == `{"id":"3"}` {
				return errors.ErrUnsupported
			}
			return nil
		}, 0, 0},
		"batches": {func(i kmsencrypted.Rewrapping) error {
			if i.From.Ciphertext == nil {
				return errors.ErrUnsupported
			}
			return nil
		}, 0, 60},
		"all":    {func(kmsencrypted.Rewrapping) error { return errors.ErrUnsupported }, 3, 0},
		"denied": {func(kmsencrypted.Rewrapping) error { return kmsencrypted.ErrDenied }, 3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBatchRewrapper(t)
			box, columns, keys := rewrapSetup(t, b, nil)
			b.refuses = c.refuses
			b.requests.Store(0)
			for i, r := range box.RewrapAll(t.Context(), columns) {
				if r.Err != nil {
					t.Errorf("column %d: %v", i, r.Err)
				} else if k := unwrap(t, box, kmsencrypted.WrappedKey{Column: r.Column, Binding: columns[i].Binding}); kmsencrypted.ColumnVersion(r.Column) != 2 || !k.Equal(keys[i]) {
					t.Errorf("column %d is %.8q…, or another key", i, r.Column)
				}
			}
			if got := b.requests.Load(); got != 2*c.unwraps { // and as many to wrap
				t.Errorf("%d requests to unwrap and wrap, want %d", got, 2*c.unwraps)
			}
			if b.inner.rewraps != c.rewraps {
				t.Errorf("%d single rewraps, want %d", b.inner.rewraps, c.rewraps)
			}
		})
	}
}

// A service that is away or refuses the column is not asked in another way.
func TestRewrapAllDoesNotStepAroundFailures(t *testing.T) {
	for _, want := range []error{kmsencrypted.ErrUnavailable, kmsencrypted.ErrThrottled, kmsencrypted.ErrDecrypt, kmsencrypted.ErrKeyUnusable} {
		b := newBatchRewrapper(t)
		box, columns, _ := rewrapSetup(t, b, nil)
		b.refuses = func(kmsencrypted.Rewrapping) error { return want }
		b.requests.Store(0)
		for i, r := range box.RewrapAll(t.Context(), columns) {
			if !errors.Is(r.Err, want) || r.Column != "" {
				t.Errorf("column %d = %q, %v, want %v", i, r.Column, r.Err, want)
			}
		}
		if b.requests.Load() != 0 {
			t.Errorf("%v: %d other requests", want, b.requests.Load())
		}
	}
}

// foreteller says from which provider it rewraps.
type foreteller struct {
	*rewrapper
	from kmsencrypted.Provider
}

func (f *foreteller) RewrapsFrom(source kmsencrypted.Provider) bool { return source == f.from }

// front is a provider that stands before another one and has no ability itself.
type front struct{ kmsencrypted.Provider }

func (f front) Unwrap() kmsencrypted.Provider { return f.Provider }

// RewrapsInside counts on one call only where the provider says so, also behind
// others, and nothing that the commitment covers changes.
func TestRewrapsInside(t *testing.T) {
	old, other := &foreteller{rewrapper: &rewrapper{service: newService(t)}}, newService(t)
	current := &foreteller{rewrapper: &rewrapper{service: newService(t)}, from: old}
	context := func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) { return nil, nil }
	chosen := func(kmsencrypted.Subject, kmsencrypted.BoundContext) (kmsencrypted.Provider, error) { return old, nil }
	for name, c := range map[string]struct {
		from, to kmsencrypted.Version
		min      int
		want     bool
	}{
		"known":               {from: kmsencrypted.Version{Provider: old}, want: true},
		"known, behind":       {from: kmsencrypted.Version{Provider: front{front{old}}}, to: kmsencrypted.Version{Provider: front{current}}, want: true},
		"other source":        {from: kmsencrypted.Version{Provider: other}},
		"target cannot tell":  {from: kmsencrypted.Version{Provider: old}, to: kmsencrypted.Version{Provider: current.rewrapper}},
		"chosen by record":    {from: kmsencrypted.Version{ProviderFor: chosen}},
		"context of its own":  {from: kmsencrypted.Version{Provider: old, Context: context}},
		"id left out":         {from: kmsencrypted.Version{Provider: old}, to: kmsencrypted.Version{Provider: current, OmitID: true}},
		"a seal dropped":      {from: kmsencrypted.Version{Provider: old, RecordSeal: true}},
		"another format":      {from: kmsencrypted.Version{Provider: old, Format: kmsencrypted.Ruby}},
		"cannot be read":      {from: kmsencrypted.Version{Provider: old}, min: 2},
		"both have the id":    {from: kmsencrypted.Version{Provider: old, OmitID: true}, to: kmsencrypted.Version{Provider: current, OmitID: true}, want: true},
		"both are Ruby's":     {from: kmsencrypted.Version{Provider: old, Format: kmsencrypted.Ruby}, to: kmsencrypted.Version{Provider: current, Format: kmsencrypted.Ruby}, want: true},
		"both have the seals": {from: kmsencrypted.Version{Provider: old, RecordSeal: true}, to: kmsencrypted.Version{Provider: current, RecordSeal: true}},
	} {
		if c.to.Provider == nil {
			c.to.Provider = current
		}
		box := newBox(t, kmsencrypted.Config{Current: 2, MinVersion: c.min, Versions: map[int]kmsencrypted.Version{1: c.from, 2: c.to}})
		if got := box.RewrapsInside(1, 2); got != c.want {
			t.Errorf("%s: RewrapsInside(1, 2) = %v, want %v", name, got, c.want)
		}
		if box.RewrapsInside(7, 2) || box.RewrapsInside(1, 7) {
			t.Errorf("%s: RewrapsInside of a version that is not listed", name)
		}
	}
}
