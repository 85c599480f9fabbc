package vault_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
)

// What nobody set up returns an error instead of a panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	zerotest.Calls(t, map[string]func() error{
		"New(nil)": func() error { _, err := vault.New(nil, "vault/app", vault.Options{}); return err },
	})
}
