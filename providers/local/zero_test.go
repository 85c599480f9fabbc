package local_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// What nobody set up returns an error instead of a panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	zerotest.Methods(t, new(local.Provider))
	zerotest.Methods(t, (*local.Provider)(nil))
}
