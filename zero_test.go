package kmsencrypted_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
)

// A nil Box and a zero Box refuse every operation with an error, and describe
// themselves as a Box without versions.
func TestZeroBox(t *testing.T) {
	t.Parallel()
	ctx, key, to := t.Context(), kmsencrypted.NewDataKey(), kmsencrypted.Binding{ID: []string{"1"}}
	wrapped := []kmsencrypted.WrappedKey{{Column: "v1:AA", Binding: to}, {Column: "v2:AA", Binding: to}}
	for name, box := range map[string]*kmsencrypted.Box{"nil": nil, "zero": new(kmsencrypted.Box)} {
		for _, c := range []struct {
			name string
			try  func() error
		}{
			{"Encrypt", func() error { _, err := box.Encrypt(ctx, []byte("x"), nil); return err }},
			{"Decrypt", func() error { _, err := box.Decrypt(ctx, "v1:AA", nil); return err }},
			{"Wrap", func() error { _, err := box.Wrap(ctx, key, to); return err }},
			{"WrapAll", func() error {
				return box.WrapAll(ctx, []kmsencrypted.KeyToWrap{{Key: key, Binding: to}, {Key: key, Binding: to}})[1].Err
			}},
			{"Unwrap", func() error { _, err := box.Unwrap(ctx, "v1:AA", to); return err }},
			{"UnwrapAll", func() error { return box.UnwrapAll(ctx, wrapped)[1].Err }},
			{"UnwrapEach", func() error {
				for _, r := range box.UnwrapEach(ctx, wrapped) {
					return r.Err
				}
				return nil
			}},
			{"Rewrap", func() error { _, err := box.Rewrap(ctx, "v1:AA", to); return err }},
			{"RewrapAll", func() error { return box.RewrapAll(ctx, wrapped)[1].Err }},
			{"Missing", func() error { _, err := box.Missing("v1:AA", to); return err }},
			{"Commitment", func() error { _, err := box.Commitment("v1:AA"); return err }},
			{"Committed", func() error { _, err := box.Committed([32]byte{}, key, to); return err }},
			{"Version", func() error { _, err := box.Version(1); return err }},
		} {
			if err := c.try(); !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("%s of a %s Box = %v, want ErrConfig", c.name, name, err)
			}
		}
		if n := box.Current(); n != 0 {
			t.Errorf("Current of a %s Box = %d, want 0", name, n)
		}
		if all := box.Versions(); len(all) != 0 {
			t.Errorf("Versions of a %s Box = %v, want none", name, all)
		}
		if n := box.InFlight(); n != 0 {
			t.Errorf("InFlight of a %s Box = %d, want 0", name, n)
		}
		if box.RewrapsInside(1, 2) {
			t.Errorf("RewrapsInside of a %s Box = true, want false", name)
		}
	}
}

// A Box is not made of a provider that nobody has set up.
func TestZeroProvider(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		provider kmsencrypted.Provider
	}{
		{"nil", nil},
		{"local.Provider{}", new(local.Provider)},
		{"nil *local.Provider", (*local.Provider)(nil)},
		{"guard.New(nil)", guard.New(nil, guard.Options{})},
		{"guard.New(local.Provider{})", guard.New(new(local.Provider), guard.Options{})},
		{"multi.New of none", multi.New(nil, multi.Options{})},
		{"multi.Provider{}", new(multi.Provider)},
		{"multi.New(nil)", multi.New([]kmsencrypted.Provider{nil}, multi.Options{})},
		{"multi.New(local.Provider{})", multi.New([]kmsencrypted.Provider{new(local.Provider)}, multi.Options{})},
	} {
		if _, err := kmsencrypted.NewBox(c.provider); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("NewBox(%s) = %v, want ErrConfig", c.name, err)
		}
		choose := func(kmsencrypted.Subject, kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
			return c.provider, nil
		}
		box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {ProviderFor: choose}}}.Box()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := box.Encrypt(t.Context(), []byte("x"), nil); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Encrypt where ProviderFor returns %s = %v, want ErrConfig", c.name, err)
		}
	}
}

// Derive refuses sizes that HKDF-Expand cannot give, and labels under which this
// module derives keys of its own: their bytes would be those keys.
func TestDeriveRefuses(t *testing.T) {
	t.Parallel()
	key := kmsencrypted.NewDataKey()
	const most = 255 * 64
	for _, c := range []struct {
		label string
		size  int
		want  error
	}{
		{"webhook/1", 1, nil},
		{"webhook/1", 32, nil},
		{"webhook/1", 64, nil},
		{"webhook/1", 65, nil},
		{"webhook/1", most, nil},
		{"", 32, nil},
		{"my kmsencrypted/1 record", 32, nil},
		{"webhook/1", 0, kmsencrypted.ErrConfig},
		{"webhook/1", -1, kmsencrypted.ErrConfig},
		{"webhook/1", most + 1, kmsencrypted.ErrConfig},
		{"kmsencrypted/1 record", 64, kmsencrypted.ErrConfig},
		{"kmsencrypted/1 record seal", 32, kmsencrypted.ErrConfig},
		{"kmsencrypted/1 file key", 32, kmsencrypted.ErrConfig},
		{"kmsencrypted/2 not used yet", 32, kmsencrypted.ErrConfig},
	} {
		out, err := key.Derive(c.label, c.size)
		if !errors.Is(err, c.want) || err == nil && len(out) != c.size || err != nil && out != nil {
			t.Errorf("Derive(%q, %d) = %d bytes, %v, want %v", c.label, c.size, len(out), err, c.want)
		}
	}
}
