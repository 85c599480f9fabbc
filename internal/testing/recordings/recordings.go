// Package recordings finds sessions that were recorded against real key
// services. They are part of the Go Cloud Development Kit (gocloud.dev,
// Apache-2.0). Only tests import it.
package recordings

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "gocloud.dev@v0.47.0"

// Sessions returns the recordings of a service, "awskms" or "gcpkms", by name.
// If the module is not in the module cache, it is downloaded with CI=true, and
// otherwise the test is skipped.
func Sessions(t testing.TB, service string) map[string][]byte {
	t.Helper()
	sessions := make(map[string][]byte)
	files := os.DirFS(filepath.Join(moduleDir(t), "secrets", service, "testdata"))
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		sessions[strings.TrimSuffix(path, ".replay")], err = fs.ReadFile(files, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sessions) == 0 {
		t.Fatalf("%s has no recordings of %s", module, service)
	}
	return sessions
}

func moduleDir(t testing.TB) string {
	t.Helper()
	inCI := os.Getenv("CI") == "true"
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = t.TempDir() // outside this module, so that its go.mod does not change
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if !inCI {
		cmd.Env = append(cmd.Env, "GOPROXY=off")
	}
	out, err := cmd.Output()
	var downloaded struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(out, &downloaded)
	}
	switch {
	case err == nil:
		return downloaded.Dir
	case inCI:
		t.Fatalf("no recorded sessions: go mod download %s: %v", module, err)
	default:
		t.Skipf("no recorded sessions: run go mod download %s", module)
	}
	return ""
}
