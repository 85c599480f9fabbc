package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
)

// random finds what differs from run to run: the bytes of columns and the path of
// the key file.
var random = regexp.MustCompile(`(v[12]:|w)[A-Za-z0-9+/]+…|local:\S*keys\.txt`)

func blank(output string) string {
	return random.ReplaceAllStringFunc(output, func(found string) string {
		if strings.HasPrefix(found, "local:") {
			return "local:KEYS"
		}
		return random.FindStringSubmatch(found)[1] + "…"
	})
}

// The output is what the README shows.
func TestQuickstart(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const command = "```\n$ go run ./examples/quickstart\n"
	_, block, found := strings.Cut(strings.ReplaceAll(string(readme), "\r\n", "\n"), command)
	want, _, closed := strings.Cut(block, "```")
	if !found || !closed {
		t.Fatalf("README.md has no block that begins with %q", command)
	}
	if got := blank(out.String()); got != blank(want) {
		t.Errorf("output:\n%s\nREADME.md:\n%s", got, blank(want))
	}
	// Ada's key column was moved, Grace's was not, and no value was sealed again.
	lines := regexp.MustCompile(`(?m)^  (Ada|Grace) +key (v\d):\S+ +email (\S+)`).FindAllStringSubmatch(out.String(), -1)
	if len(lines) != 4 {
		t.Fatalf("%d rows shown, want 2 before the move and 2 after:\n%s", len(lines), out.String())
	}
	for i, version := range []string{"v1", "v1", "v2", "v1"} {
		if lines[i][2] != version {
			t.Errorf("row %d has a key of %s, want %s", i, lines[i][2], version)
		}
		if lines[i][3] != lines[i%2][3] {
			t.Errorf("row %d: the move changed email_ciphertext", i)
		}
	}
}
