package multi_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
)

// What nobody set up returns an error instead of a panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	zerotest.Methods(t, new(multi.Provider))
	zerotest.Methods(t, (*multi.Provider)(nil))
}
