package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// aroundBlocks is a program around the later blocks of the README, with what they
// expect to be there. BLOCK stands for the next of them.
const aroundBlocks = `package readme

import (
	"context"
	"database/sql"
	"io"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

type Customer struct{}

var db *sql.DB
var customers, users, documents *field.Model[Customer]

func versions(old, new kmsencrypted.Provider, byTenant kmsencrypted.ContextFunc) (*kmsencrypted.Box, error) {
BLOCK
	return box, err
}

BLOCK

func files(ctx context.Context, attachments *attach.Manager[Customer], c Customer, upload io.Reader, tx *sql.Tx) (*attach.File, error) {
BLOCK
	return f, err
}
`

// The blocks of the README after the first two compile.
func TestReadmeCompiles(t *testing.T) {
	t.Parallel()
	parts := strings.Split(aroundBlocks, "BLOCK\n")
	blocks := goBlocks(t)[2:]
	if len(blocks) != len(parts)-1 {
		t.Fatalf("README.md has %d later blocks of Go, aroundBlocks has room for %d", len(blocks), len(parts)-1)
	}
	source := parts[0]
	for i, block := range blocks {
		source += block + parts[i+1]
	}
	program := filepath.Join(t.TempDir(), "readme.go")
	if err := os.WriteFile(program, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	// The overlay puts the program into this module without a file in its folder.
	here, err := filepath.Abs("readme/readme.go")
	if err != nil {
		t.Fatal(err)
	}
	replaced, err := json.Marshal(map[string]any{"Replace": map[string]string{here: program}})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(overlay, replaced, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "./readme").CombinedOutput(); err != nil {
		t.Errorf("README.md does not compile: %v\n%s\n%s", err, out, source)
	}
}
