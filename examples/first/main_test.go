package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// goBlocks returns the Go code of README.md.
func goBlocks(t *testing.T) []string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for rest := strings.ReplaceAll(string(readme), "\r\n", "\n"); ; {
		_, after, found := strings.Cut(rest, "```go\n")
		if !found {
			return blocks
		}
		block, next, _ := strings.Cut(after, "```")
		blocks, rest = append(blocks, block), next
	}
}

// The first program of the README is main.go, and the second block is a part of
// the example that go test runs.
func TestReadme(t *testing.T) {
	t.Parallel()
	blocks := goBlocks(t)
	if len(blocks) < 2 {
		t.Fatalf("README.md has %d blocks of Go, want at least 2", len(blocks))
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if blocks[0] != string(program) {
		t.Error("the first program of README.md is not examples/first/main.go")
	}
	find, err := os.ReadFile("find_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var flat []string
	for line := range strings.Lines(string(find)) {
		flat = append(flat, strings.TrimPrefix(line, "\t"))
	}
	if !strings.Contains(strings.Join(flat, ""), blocks[1]) {
		t.Error("the second block of README.md is not in examples/first/find_test.go")
	}
}

// The program runs twice in one folder, and not without its key file.
func TestRunsTwice(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	program := filepath.Join(folder, "first.exe")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	run := func() (string, error) {
		command := exec.CommandContext(t.Context(), program)
		command.Dir = folder
		out, err := command.CombinedOutput()
		return string(out), err
	}
	for _, want := range []string{"1 [redacted] ada@example.org\n", "2 [redacted] ada@example.org\n"} {
		if got, err := run(); err != nil || got != want {
			t.Fatalf("run: %q, %v, want %q", got, err, want)
		}
	}
	if err := os.Remove(filepath.Join(folder, "keys.txt")); err != nil {
		t.Fatal(err)
	}
	if got, err := run(); err == nil || !strings.Contains(got, "the key file is missing") {
		t.Errorf("run without the key file: %q, %v, want an error", got, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "keys.txt")); err == nil {
		t.Error("a new key file was made although data exists")
	}
}
