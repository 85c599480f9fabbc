package vaultserver

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

var errNotBuilt = errors.New("set KMSENCRYPTED_VAULT=build to build one (two minutes, once), or KMSENCRYPTED_VAULT_ADDR and KMSENCRYPTED_VAULT_TOKEN to use another")

// program returns the path of the server program, built from the current
// sources.
func program() (string, error) {
	dir := sourceDir()
	digest, err := digest(os.DirFS(dir))
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "kmsencrypted", "vaultd-"+digest)
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	switch _, err := os.Stat(path); {
	case err == nil:
		return path, nil
	case !inCI() && os.Getenv("KMSENCRYPTED_VAULT") != "build":
		return "", errNotBuilt
	}
	return path, build(dir, path)
}

func sourceDir() string { return filepath.Join(vectors.Root(), "e2e", "vaultd") }

// digest identifies the sources, so that an outdated program is never used.
func digest(sources fs.FS) (string, error) {
	h := sha256.New()
	err := fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(sources, path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(data), data)
		return err
	})
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), err
}

// build builds the program under a temporary name first, because several test
// binaries may build it at once.
func build(dir, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	defer os.Remove(temporary)
	cmd := exec.Command("go", "build", "-o", temporary, ".")
	cmd.Dir = dir
	// The module is independent: flags and workspaces of the caller do not apply.
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build in e2e/vaultd: %w\n%s", err, bytes.TrimSpace(out))
	}
	return os.Rename(temporary, path)
}
