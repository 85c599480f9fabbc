package lockbox_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

// What nobody has set up returns an error instead of a panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	zero, key := new(lockbox.Box), make([]byte, lockbox.KeySize)
	for _, c := range []struct {
		name string
		try  func() error
	}{
		{"Box{}.Seal", func() error { _, err := zero.Seal(nil, []byte("x"), nil); return err }},
		{"nil Box.Seal", func() error { _, err := (*lockbox.Box)(nil).Seal(nil, []byte("x"), nil); return err }},
		{"Box{}.SealText", func() error { _, err := zero.SealText(nil, []byte("x"), nil); return err }},
		{"Box{}.Open", func() error { _, err := zero.Open(nil, make([]byte, 40), nil); return err }},
		{"Box{}.OpenText", func() error { _, err := zero.OpenText(nil, []byte("AAAA"), nil); return err }},
		{"Column{}.Seal", func() error { _, err := lockbox.Column{}.Seal(nil, []byte("x"), nil); return err }},
		{"Column{}.Seal of nothing", func() error { _, err := lockbox.Column{}.Seal(nil, nil, nil); return err }},
		{"Column{}.Open", func() error { _, err := lockbox.Column{Binary: true}.Open(nil, make([]byte, 40), nil); return err }},
		{"Column{}.Open of nothing", func() error { _, err := lockbox.Column{}.Open(nil, nil, nil); return err }},
		{"MasterKey{}.AttributeKey", func() error { _, err := lockbox.MasterKey{}.AttributeKey("t", "a"); return err }},
		{"New(nil)", func() error { _, err := lockbox.New(nil, lockbox.Options{}); return err }},
		{"New, previous nil", func() error {
			_, err := lockbox.New(key, lockbox.Options{Previous: []*lockbox.Box{nil}})
			return err
		}},
		{"New, previous zero", func() error {
			_, err := lockbox.New(key, lockbox.Options{Previous: []*lockbox.Box{zero}})
			return err
		}},
	} {
		if err := c.try(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s = %v, want ErrConfig", c.name, err)
		}
	}
}
