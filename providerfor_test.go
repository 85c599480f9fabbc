package kmsencrypted_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// named is a service whose key has a name of its own.
type named struct {
	*batcher
	keyID string // two keys may have one name, as in two mounts of a Vault
}

func (n named) Info() kmsencrypted.KeyInfo {
	info := n.batcher.Info()
	info.KeyID = n.keyID
	return info
}

// uncomparable is a provider that is no map key.
type uncomparable struct {
	kmsencrypted.Provider
	_ []int
}

var errNoTenant = errors.New("no such tenant")

// tenants have a key each, which the context chooses.
type tenants map[string]named

func newTenants(t *testing.T, keyID string, names ...string) tenants {
	all := make(tenants)
	for _, name := range names {
		all[name] = named{&batcher{service: newService(t)}, keyID}
	}
	return all
}

func (all tenants) provider(_ kmsencrypted.Subject, ec kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
	pairs, err := ec.Map()
	if err != nil {
		return nil, err
	}
	p, ok := all[pairs["tenant"]]
	if !ok {
		return nil, errNoTenant
	}
	return p, nil
}

func (all tenants) requests() (n int64) {
	for _, p := range all {
		n += p.requests.Swap(0)
	}
	return n
}

func ofTenant(id, tenant string) kmsencrypted.Binding {
	return kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{id}, Context: kmsencrypted.Context{"tenant": tenant}}
}

func TestProviderOfEachTenant(t *testing.T) {
	for _, format := range []kmsencrypted.Format{kmsencrypted.Native, kmsencrypted.Ruby} {
		t.Run(format.String(), func(t *testing.T) {
			all := newTenants(t, "one name for all", "acme", "globex")
			var seen []string
			box := newBox(t, kmsencrypted.Config{Current: 1, Concurrency: 1,
				Versions: map[int]kmsencrypted.Version{1: {ProviderFor: all.provider, Format: format}},
				Observer: func(_ context.Context, e kmsencrypted.Event) { seen = append(seen, string(e.Op)+" by "+e.Key.KeyID) },
			})
			var keys []kmsencrypted.KeyToWrap
			for i := range 20 {
				tenant := "acme"
				if i%2 == 1 {
					tenant = "globex"
				}
				keys = append(keys, kmsencrypted.KeyToWrap{Key: kmsencrypted.NewDataKey(), Binding: ofTenant(string(rune('a'+i)), tenant)})
			}
			keys = append(keys, kmsencrypted.KeyToWrap{Key: kmsencrypted.NewDataKey(), Binding: ofTenant("x", "nobody")})
			var columns []kmsencrypted.WrappedKey
			for i, r := range box.WrapAll(t.Context(), keys) {
				if i == 20 {
					if !errors.Is(r.Err, errNoTenant) || r.Column != "" {
						t.Errorf("WrapAll for a tenant without a key = %q, %v", r.Column, r.Err)
					}
					continue
				}
				if r.Err != nil {
					t.Fatal(r.Err)
				}
				columns = append(columns, kmsencrypted.WrappedKey{Column: r.Column, Binding: keys[i].Binding})
			}
			if n := all.requests(); n != 2 || len(seen) != 2 || seen[0] != "wrap by one name for all" {
				t.Errorf("20 keys of two tenants are wrapped by %d requests, %q; want one for each tenant", n, seen)
			}
			// Trouble of one tenant is not that of another.
			acme := all["acme"]
			acme.fail = func(int64) error { return kmsencrypted.ErrDenied }
			for i, r := range box.UnwrapAll(t.Context(), columns) {
				if i%2 == 0 && !errors.Is(r.Err, kmsencrypted.ErrDenied) || i%2 == 1 && (r.Err != nil || !r.Key.Equal(keys[i].Key)) {
					t.Errorf("column %d with acme denied: %v", i, r.Err)
				}
			}
			if n := all.requests(); n != 2 {
				t.Errorf("20 keys of two tenants are unwrapped by %d requests, want one for each tenant", n)
			}
			acme.fail = nil
			// Another tenant's context takes another key.
			if _, err := box.Unwrap(t.Context(), columns[0].Column, ofTenant("a", "globex")); !errors.Is(err, kmsencrypted.ErrDecrypt) {
				t.Errorf("acme's column as globex's: %v, want ErrDecrypt", err)
			}
			secret, err := box.Encrypt(t.Context(), []byte("token"), kmsencrypted.Context{"tenant": "globex"})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := box.Decrypt(t.Context(), secret, kmsencrypted.Context{"tenant": "globex"}); err != nil || string(got) != "token" {
				t.Errorf("Decrypt = %q, %v", got, err)
			}
		})
	}
}

// What was unwrapped with one tenant's key is not found for another, whose
// context may be the same.
func TestCacheKeepsTenantsApart(t *testing.T) {
	all := newTenants(t, "one name for all", "acme", "globex")
	bySubject := func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
		return all[s.Record.(string)], nil
	}
	box := newBox(t, kmsencrypted.Config{Current: 3, Versions: map[int]kmsencrypted.Version{3: {ProviderFor: bySubject}}, Cache: &kmsencrypted.CacheConfig{}})
	binding := kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{"7"}, Subject: kmsencrypted.Subject{Record: "acme"}}
	column, err := box.Wrap(t.Context(), kmsencrypted.NewDataKey(), binding)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := box.Unwrap(t.Context(), column, binding); err != nil {
			t.Error(err)
		}
	}
	all["acme"].wantCalls(t, "acme twice", 1)
	binding.Subject.Record = "globex"
	if _, err := box.Unwrap(t.Context(), column, binding); !errors.Is(err, kmsencrypted.ErrDecrypt) {
		t.Errorf("acme's column as globex's, from the cache: %v, want ErrDecrypt", err)
	}
}

func TestProviderForMistakes(t *testing.T) {
	s := newService(t)
	gives := func(p kmsencrypted.Provider) kmsencrypted.ProviderFunc {
		return func(kmsencrypted.Subject, kmsencrypted.BoundContext) (kmsencrypted.Provider, error) { return p, nil }
	}
	both := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: s, ProviderFor: gives(s)}}}
	if _, err := both.Box(); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Provider and ProviderFor: %v, want ErrConfig", err)
	}
	for name, v := range map[string]kmsencrypted.Version{
		"what == cannot compare":      {ProviderFor: gives(uncomparable{Provider: s})},
		"none":                        {ProviderFor: gives(nil)},
		"an insecure one":             {ProviderFor: gives(testkey.New())},
		"several under Ruby":          {ProviderFor: gives(multi.New([]kmsencrypted.Provider{s}, multi.Options{})), Format: kmsencrypted.Ruby},
		"a mistake of the provider's": {ProviderFor: gives(multi.New(nil, multi.Options{}))},
		"one that ignores contexts":   {ProviderFor: gives(ignorant{s}), Format: kmsencrypted.Ruby},
	} {
		box := newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: v}})
		if _, err := box.Wrap(t.Context(), kmsencrypted.NewDataKey(), ofTenant("7", "acme")); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("ProviderFor gives %s: Wrap: %v, want ErrConfig", name, err)
		}
		column := "v1:AAAA"
		if v.Format == kmsencrypted.Native {
			column = wrapped(t, newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: s}}}), 1)[0].Column
		}
		if _, err := box.Unwrap(t.Context(), column, ofTenant("7", "acme")); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("ProviderFor gives %s: Unwrap: %v, want ErrConfig", name, err)
		}
	}
	var log bytes.Buffer
	box := newBox(t, kmsencrypted.Config{Current: 1, AllowInsecure: true, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Versions: map[int]kmsencrypted.Version{1: {ProviderFor: gives(testkey.New())}}})
	for range 3 {
		if _, err := box.Wrap(t.Context(), kmsencrypted.NewDataKey(), ofTenant("7", "acme")); err != nil {
			t.Error(err)
		}
	}
	if strings.Count(log.String(), "level=WARN") != 1 {
		t.Errorf("log = %q, want one warning of an insecure key", log.String())
	}
}

// ignorant is a service that does not look at contexts.
type ignorant struct{ kmsencrypted.Provider }

func (i ignorant) Info() kmsencrypted.KeyInfo {
	info := i.Provider.Info()
	info.IgnoresContext = true
	return info
}
