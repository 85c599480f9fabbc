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

// A second wrap outlives a key that is erased.
func TestNoSecondWrapBesideErasableKeys(t *testing.T) {
	t.Parallel()
	keys := erasable{kmstest.Memory()}
	if err := multi.New([]kmsencrypted.Provider{keys, kmstest.Memory()}, multi.Options{}).Check(); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Check() = %v, want ErrConfig", err)
	}
	if err := multi.New([]kmsencrypted.Provider{keys}, multi.Options{}).Check(); err != nil {
		t.Errorf("Check() of one provider = %v", err)
	}
}
