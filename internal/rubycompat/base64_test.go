package rubycompat_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

func TestBase64Vectors(t *testing.T) {
	var file struct {
		Encode []struct {
			Bytes  []byte `json:"bytes_b64"`
			Lines  string `json:"encode64"`
			Strict string `json:"strict_encode64"`
			PackM  string `json:"pack_m"`
			PackM0 string `json:"pack_m0"`
		}
		Decode []struct {
			Text    vectors.Stored `json:"input"`
			Decoded []byte         `json:"decoded_b64"`
		}
	}
	vectors.Load(t, "ruby_base64.json", &file)
	for _, c := range file.Encode {
		if got := rubycompat.Encode64(c.Bytes); got != c.Lines || got != c.PackM {
			t.Errorf("Encode64(%x) = %q, want %q", c.Bytes, got, c.Lines)
		}
		if got := rubycompat.StrictEncode64(c.Bytes); got != c.Strict || got != c.PackM0 {
			t.Errorf("StrictEncode64(%x) = %q, want %q", c.Bytes, got, c.Strict)
		}
	}
	for _, c := range file.Decode {
		if got := rubycompat.Decode64(string(c.Text.Bytes)); !bytes.Equal(got, c.Decoded) {
			t.Errorf("Decode64(%q) = %x, want %x", c.Text.Bytes, got, c.Decoded)
		}
	}
	vectors.Ran(t, "ruby_base64.json", len(file.Encode)+len(file.Decode))
}

func FuzzDecode64(f *testing.F) {
	for _, seed := range []string{"", "A=A=", "AB=C", "aGVsbG8=", "aGVs\nbG8", "-_-_", "A B C D E", "AAAA=BBBB", "\xff\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		decoded := rubycompat.Decode64(text)
		if again := rubycompat.Decode64(rubycompat.Encode64(decoded)); !bytes.Equal(again, decoded) {
			t.Errorf("Decode64(Encode64(%x)) = %x", decoded, again)
		}
		// What the strict decoder accepts, the lenient one reads the same.
		if strict, err := base64.StdEncoding.DecodeString(text); err == nil && !bytes.Equal(strict, decoded) {
			t.Errorf("Decode64(%q) = %x, strict decoding gives %x", text, decoded, strict)
		}
		if lines := rubycompat.Encode64(decoded); strings.ReplaceAll(lines, "\n", "") != rubycompat.StrictEncode64(decoded) {
			t.Errorf("Encode64(%x) = %q is not the strict text in lines", decoded, lines)
		}
	})
}
