package blindindex_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
)

// What nobody has set up returns an error instead of a panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	zero := new(blindindex.Index)
	for _, c := range []struct {
		name string
		try  func() error
	}{
		{"Index{}.Compute", func() error { _, err := zero.Compute("x"); return err }},
		{"Index{}.Compute of NULL", func() error { _, err := zero.Compute(nil); return err }},
		{"nil Index.Compute", func() error { _, err := (*blindindex.Index)(nil).Compute("x"); return err }},
		{"Index{}.Plaintext", func() error { _, err := zero.Plaintext("x"); return err }},
		{"Index{}.Lookup", func() error { _, err := zero.Lookup("x"); return err }},
		{"MasterKey{}.IndexKey", func() error { _, err := blindindex.MasterKey{}.IndexKey("t", "a"); return err }},
		{"NewPrefixIndex(nil)", func() error { _, err := blindindex.NewPrefixIndex(nil, 1, 3); return err }},
		{"NewPrefixIndex(Index{})", func() error { _, err := blindindex.NewPrefixIndex(zero, 1, 3); return err }},
		{"NewRotation(nil, nil)", func() error { _, err := blindindex.NewRotation(nil, nil); return err }},
		{"NewRotation of zero", func() error { _, err := blindindex.NewRotation(zero, new(blindindex.Index)); return err }},
		{"New(nil)", func() error { _, err := blindindex.New(nil, "a", blindindex.Options{}); return err }},
		{"Derive(MasterKey{})", func() error {
			_, err := blindindex.Derive(blindindex.MasterKey{}, "t", "a", blindindex.Options{})
			return err
		}},
	} {
		if err := c.try(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s = %v, want ErrConfig", c.name, err)
		}
	}
}
