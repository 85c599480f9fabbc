package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

const committed = "../../docs/envelope.svg"

// The picture in the README is what this program draws.
func TestPictureIsCurrent(t *testing.T) {
	t.Parallel()
	want, err := picture(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	if strings.ReplaceAll(string(got), "\r\n", "\n") != want {
		t.Errorf("%s is not what the program draws: go run ./examples/envelope > docs/envelope.svg", committed)
	}
	decoder := xml.NewDecoder(strings.NewReader(want))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is not XML: %v", err)
		}
	}
}

// A record sealed today has the parts and sizes of the one in the picture, and
// other bytes where they must be random.
func TestPictureIsOfTodaysFormat(t *testing.T) {
	t.Parallel()
	shown, err := seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := dissect(t.Context(), shown)
	if err != nil {
		t.Fatal(err)
	}
	b, err := dissect(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	svg, err := picture(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, columns := range [][2][]part{{a.key, b.key}, {a.column, b.column}} {
		for i, p := range columns[0] {
			other := columns[1][i]
			same := string(p.bytes) == string(other.bytes)
			if constant := p.kind == "format" || p.kind == "size"; same != constant {
				t.Errorf("two records have the same %s: %v, want %v", p.name, same, constant)
			}
			if line := ">" + p.name + ", "; !strings.Contains(svg, line) {
				t.Errorf("the picture lacks %q", line)
			}
		}
	}
	if lengths := strings.Count(svg, "171 characters") + strings.Count(svg, "72 characters"); lengths != 2 || len(shown.EncryptedKMSKey) != 171 || len(shown.EmailCiphertext) != 72 {
		t.Errorf("columns of %d and %d characters, want the 171 and 72 of the picture", len(shown.EncryptedKMSKey), len(shown.EmailCiphertext))
	}
}

// A record that does not open is not drawn.
func TestDissectRefuses(t *testing.T) {
	t.Parallel()
	good, err := seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(r *record){
		"another id":  func(r *record) { r.ID++ },
		"no wrap":     func(r *record) { r.EncryptedKMSKey = "v1:AQ==" },
		"no column":   func(r *record) { r.EmailCiphertext = "wQ==" },
		"another key": func(r *record) { r.KeyFile = strings.ToUpper(r.KeyFile[:11]) + strings.Repeat("0", 64) },
	} {
		bad := good
		spoil(&bad)
		if _, err := dissect(t.Context(), bad); err == nil {
			t.Errorf("%s: the record was dissected", name)
		}
	}
}
