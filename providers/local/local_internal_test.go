package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// The way of Create on a file system that has no links.
func TestCreateExclusively(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	temporary, path := filepath.Join(folder, "temporary"), filepath.Join(folder, "keys.txt")
	const text = "a 0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20\n"
	if err := os.WriteFile(temporary, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := createExclusively(path, temporary); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err != nil {
		t.Error(err)
	}
	if err := createExclusively(path, temporary); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second time: %v, want fs.ErrExist", err)
	}
}
