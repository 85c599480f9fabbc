package keycolumn

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func TestSplitVersion(t *testing.T) {
	for text, want := range map[string]struct {
		version int
		body    string
		ok      bool
	}{
		"v1:abc":                 {1, "abc", true},
		"v0:abc":                 {0, "abc", true},
		"v12:":                   {12, "", true},
		"v1:a:b":                 {1, "a:b", true},
		"v01:abc":                {0, "v01:abc", false},
		"v:abc":                  {0, "v:abc", false},
		"v-1:abc":                {0, "v-1:abc", false},
		"v+1:abc":                {0, "v+1:abc", false},
		" v1:abc":                {0, " v1:abc", false},
		"vault:v1:abc":           {0, "vault:v1:abc", false},
		"v99999999999999999999:": {0, "v99999999999999999999:", false},
		"":                       {0, "", false},
	} {
		version, body, ok := SplitVersion(text)
		if version != want.version || body != want.body || ok != want.ok {
			t.Errorf("SplitVersion(%q) = %d, %q, %v, want %v", text, version, body, ok, want)
		}
	}
}

func TestNativeLimits(t *testing.T) {
	good := Wrap{Tag: "a", Ciphertext: []byte("b")}
	for name, wraps := range map[string][]Wrap{
		"no wrap":         nil,
		"17 wraps":        make([]Wrap, 17),
		"long tag":        {good, {Tag: strings.Repeat("x", 256)}},
		"long ciphertext": {good, {Ciphertext: make([]byte, 65536)}},
	} {
		if _, err := (&Native{Format: FormatKey, Wraps: wraps}).Append(nil); err == nil {
			t.Errorf("%s: Append succeeds", name)
		}
	}
	largest := Native{Format: FormatKey, Wraps: []Wrap{{Tag: strings.Repeat("x", 255), Ciphertext: make([]byte, 65535)}}}
	data, err := largest.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := Parse(data); err != nil || len(n.Wraps[0].Ciphertext) != 65535 {
		t.Errorf("the largest wrap: %v", err)
	}
}

// What parses is written again byte for byte, and no cut of it parses without
// losing its end.
func FuzzNativeParse(f *testing.F) {
	two := Native{Format: FormatKey, Commitment: [32]byte{1, 2}, Wraps: []Wrap{{"aws eu-central-1", []byte("one")}, {"", nil}}, Rest: make([]byte, SealSize)}
	data, err := two.Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{data, data[:len(data)-40], nil, {FormatKey}, bytes.Repeat([]byte{0xFF}, 80), append([]byte{FormatSecret}, make([]byte, 60)...)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("Parse(%x) error = %v, want ErrMalformed", data, err)
			}
			return
		}
		if again, err := n.Append(nil); err != nil || !bytes.Equal(again, data) {
			t.Errorf("Parse(%x) is written as %x, %v", data, again, err)
		}
	})
}

func FuzzNativeColumnText(f *testing.F) {
	for _, seed := range []string{"v1:AQ==", "v2:", "v01:AQ==", "vault:v1:x", "$gc$a$b", "v1:A\nQ==", "v1:AR=="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		version, body, ok := SplitVersion(text)
		if !ok {
			return
		}
		data, err := base64.StdEncoding.Strict().DecodeString(body)
		if err != nil || strings.ContainsAny(body, "\r\n") {
			return
		}
		if again := JoinVersion(version, data); again != text {
			t.Errorf("JoinVersion(SplitVersion(%q)) = %q", text, again)
		}
	})
}
