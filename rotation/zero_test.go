package rotation_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// What nobody has set up refuses to work instead of doing something else.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		try  func() error
	}{
		{"New(nil, nil)", func() error { _, err := rotation.New(nil, nil, rotation.Options{}); return err }},
		{"New(nil, store)", func() error { _, err := rotation.New(nil, &memory{}, rotation.Options{}); return err }},
		{"New(box, nil)", func() error { _, err := rotation.New(box, nil, rotation.Options{}); return err }},
		{"RateLimiter{}.Wait", func() error { return new(rotation.RateLimiter).Wait(t.Context(), 1) }},
	} {
		if err := c.try(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s = %v, want ErrConfig", c.name, err)
		}
	}
}
