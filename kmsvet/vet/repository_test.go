package vet_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The library and its examples have no mistake. The first program of the README prints what it has
// opened, on purpose and without a comment that its readers would have to understand.
func TestRepository(t *testing.T) {
	tool := filepath.Join(t.TempDir(), "kmsvet")
	if out, err := exec.Command("go", "build", "-o", tool, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	vet := exec.Command("go", "vet", "-vettool="+tool, "./...")
	vet.Dir = "../.."
	out, err := vet.CombinedOutput()
	var found []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "#") {
			found = append(found, line)
		}
	}
	if err == nil || len(found) != 1 || !strings.HasPrefix(found[0], "examples/first/main.go:") || !strings.Contains(found[0], "is printed") {
		t.Errorf("go vet: %v:\n%swant the line of examples/first/main.go that prints an email, and no other", err, out)
	}
}
