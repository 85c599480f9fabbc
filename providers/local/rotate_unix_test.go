//go:build unix

package local_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// The application must be able to read the file that root rotated.
func TestRotateKeepsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give a file away")
	}
	t.Parallel()
	_, path := create(t)
	const user, group = 4321, 1234
	if err := os.Chown(path, user, group); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Rotate(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != user || owner.Gid != group {
		t.Errorf("owner = %d, group = %d, want %d and %d", owner.Uid, owner.Gid, user, group)
	}
}
