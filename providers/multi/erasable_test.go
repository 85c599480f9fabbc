package multi_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
)

type erasable struct{ kmsencrypted.Provider }

func (erasable) Erasable() bool { return true }

// A second wrap outlives a key that is erased, and around one alone nobody would see that it can be.
func TestNoErasableKeys(t *testing.T) {
	t.Parallel()
	keys := erasable{kmstest.Memory()}
	for _, providers := range [][]kmsencrypted.Provider{
		{keys}, {kmstest.Faulty(keys)}, {keys, kmstest.Memory()}, {kmstest.Memory(), kmstest.Faulty(keys)},
	} {
		p := multi.New(providers, multi.Options{})
		if err := p.Check(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Check() of %d providers = %v, want ErrConfig", len(providers), err)
		}
		if _, err := kmsencrypted.NewBox(p); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("NewBox() with %d providers = %v, want ErrConfig", len(providers), err)
		}
	}
}
