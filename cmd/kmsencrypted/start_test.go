package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// TestStart follows docs/start.md: it runs every command of the page in an empty folder, and
// its program.
func TestStart(t *testing.T) {
	t.Parallel()
	root := vectors.Root()
	page, err := os.ReadFile(filepath.Join(root, "docs", "start.md"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWalk(t, root)
	commands := 0
	for _, block := range regexp.MustCompile("(?s)```(sh|go)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if block[1] == "go" {
			w.write(t, "main.go", block[2])
			continue
		}
		for _, line := range strings.Split(strings.TrimSpace(block[2]), "\n") {
			w.run(t, line)
			commands++
		}
	}
	t.Logf("counted: %d commands of docs/start.md", commands)
	for _, want := range []string{"2 Ada [redacted] ada@example.org", "customers  1 migrated", "email_ciphertext"} {
		if !strings.Contains(w.printed.String(), want) {
			t.Errorf("the page prints\n%s\nwant %q", w.printed.String(), want)
		}
	}
	stored, err := os.ReadFile(filepath.Join(w.folder, "app.sqlite3"))
	if err != nil || !strings.Contains(string(stored), "v1:") {
		t.Errorf("the database has no wrapped key: %v", err)
	}
}

// walk is a shell for the few kinds of commands on the page.
type walk struct {
	root, folder string
	environment  []string
	printed      strings.Builder
}

func newWalk(t *testing.T, root string) *walk {
	t.Helper()
	return &walk{root: root, folder: t.TempDir(), environment: os.Environ()}
}

func (w *walk) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.folder, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w *walk) run(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	var err error
	switch {
	case words[0] == "sqlite3":
		err = w.sqlite(line)
	case words[0] == "export":
		w.environment = append(w.environment, strings.Replace(words[1], "$(openssl", strings.Repeat("0f", 32), 1))
	case line == "go mod init example.org/shop":
		err = w.module()
	case words[0] == "go" && words[1] == "mod", words[0] == "go" && words[1] == "install":
		// module has pinned everything, and kmsencrypted is this program
	case words[0] == "go":
		err = w.execute(t.Context(), "go", words[1:])
	case words[0] == "kmsencrypted": // TestMain has put it on PATH
		err = w.execute(t.Context(), words[0], words[1:])
	default:
		err = errors.New("unknown command")
	}
	if err != nil {
		t.Fatalf("$ %s\n%v\n%s", line, err, w.printed.String())
	}
}

func (w *walk) execute(ctx context.Context, program string, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, program, args...)
	command.Dir, command.Env = w.folder, w.environment
	command.Stdout, command.Stderr = &w.printed, &w.printed
	return command.Run()
}

// module begins a module that uses this one, with the versions that this one has.
func (w *walk) module() error {
	own, err := os.ReadFile(filepath.Join(w.root, "go.mod"))
	if err != nil {
		return err
	}
	text := strings.Replace(string(own), "module github.com/kmsencrypted/kmsencrypted", "module example.org/shop", 1)
	text += fmt.Sprintf("\nrequire github.com/kmsencrypted/kmsencrypted v0.0.0\nreplace github.com/kmsencrypted/kmsencrypted => %s\n", w.root)
	if err := os.WriteFile(filepath.Join(w.folder, "go.mod"), []byte(text), 0o600); err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(w.root, "go.sum"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.folder, "go.sum"), sums, 0o600)
}

// sqlite runs the statements in quotes, or those of a file.
func (w *walk) sqlite(line string) error {
	db, err := sql.Open("sqlite", filepath.Join(w.folder, "app.sqlite3"))
	if err != nil {
		return err
	}
	defer db.Close()
	if _, pattern, ok := strings.Cut(line, " < "); ok {
		files, err := filepath.Glob(filepath.Join(w.folder, pattern))
		if err != nil || len(files) != 1 {
			return fmt.Errorf("%s: %v, %w", pattern, files, err)
		}
		file, err := os.Open(files[0])
		if err != nil {
			return err
		}
		defer file.Close()
		text, err := io.ReadAll(file)
		if err == nil {
			_, err = db.Exec(string(text))
		}
		return err
	}
	_, quoted, _ := strings.Cut(line, `"`)
	_, err = db.Exec(strings.TrimSuffix(quoted, `"`))
	return err
}
