package main

import (
	"bytes"
	"os"
	"regexp"
	"testing"
)

// The output is deterministic but for random keys and nonces, which are blanked,
// and for the length of a wrapped key.
func TestRails(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	random := regexp.MustCompile(`(?m)^(  \w+ +)(v1:insecure\+data\+A6|v3:|_)?[\w+/]+…`)
	got := random.ReplaceAllString(out.String(), "$1$2…")
	want, err := os.ReadFile("testdata/output.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("output:\n%s\nwant:\n%s", got, want)
	}
}
