package branch_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
)

// Package files/attach finds that the keys can be erased, behind a guard too.
func TestErasable(t *testing.T) {
	t.Parallel()
	var p kmsencrypted.Provider = new(branch.Provider)
	for what, p := range map[string]kmsencrypted.Provider{"a branch": p, "behind a guard": guard.New(p, guard.Options{})} {
		if e, ok := kmsencrypted.Ability[attach.Erasable](p); !ok || !e.Erasable() {
			t.Errorf("%s is not erasable", what)
		}
	}
}
