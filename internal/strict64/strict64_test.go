package strict64

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"testing"
)

// reference is encoding/base64 without the line breaks that it skips.
func reference(text string) ([]byte, bool) {
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	return data, err == nil && !strings.ContainsAny(text, "\r\n")
}

func compare(t *testing.T, text string) {
	t.Helper()
	want, wantOK := reference(text)
	got, ok := AppendDecode([]byte("before"), text)
	if !wantOK {
		want = nil
	}
	if ok != wantOK || string(got) != "before"+string(want) {
		t.Errorf("AppendDecode(%q) = %q, %t, want %q, %t", text, got, ok, want, wantOK)
	}
}

func TestEveryLength(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{})
	for size := range 200 {
		src := make([]byte, size)
		random.Read(src)
		text := AppendEncode([]byte("before"), src)
		if want := "before" + base64.StdEncoding.EncodeToString(src); string(text) != want || len(want) != 6+EncodedLen(size) {
			t.Fatalf("AppendEncode(%x) = %q, want %q", src, text, want)
		}
		compare(t, string(text[6:]))
	}
}

// TestEveryChange puts every character in every place.
func TestEveryChange(t *testing.T) {
	t.Parallel()
	for _, src := range []string{"a", "ab", "abc", "twelve bytes", "sixteen bytes...", "seventeen bytes.."} {
		text := AppendEncode(nil, []byte(src))
		for i := range text {
			for c := range 256 {
				changed := bytes.Clone(text)
				changed[i] = byte(c)
				compare(t, string(changed))
			}
			compare(t, string(text[:i]))
			compare(t, string(text)+string(text[:i]))
			compare(t, string(text[:i])+"\n"+string(text[i:]))
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"", "YQ==", "YR==", "YWI=", "YWJj", "YWJjZGVmZ2hpams=", "YQ==YQ==", "YW\nJj", "===="} {
		f.Add(seed)
	}
	f.Fuzz(compare)
}

func BenchmarkEncode(b *testing.B) {
	src, dst := make([]byte, 69), make([]byte, 0, 128)
	rand.NewChaCha8([32]byte{}).Read(src)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			AppendEncode(dst, src)
		}
	})
	b.Run("std", func(b *testing.B) {
		for b.Loop() {
			base64.StdEncoding.AppendEncode(dst, src)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	src, dst := make([]byte, 69), make([]byte, 0, 128)
	rand.NewChaCha8([32]byte{}).Read(src)
	text := string(AppendEncode(nil, src))
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			AppendDecode(dst, text)
		}
	})
	b.Run("std", func(b *testing.B) {
		for b.Loop() {
			base64.StdEncoding.AppendDecode(dst, []byte(text))
		}
	})
}
