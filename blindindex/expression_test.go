package blindindex

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
)

func TestExpressions(t *testing.T) {
	t.Parallel()
	null := Plaintext{}
	for _, c := range []struct {
		name, text string
		want       Plaintext
	}{
		{"lower", "Ada@Example.ORG", Text("ada@example.org")},
		{"lower", "", Text("")},
		{"lower", "ΑΣ ß ẞ ǅ Ⴀ", Text("ασ ß ß ǆ ⴀ")},
		{"lower", "İI", Text("i\u0307i")},
		{"last4", "4111 1111 1111 1234", Text("1234")},
		{"last4", "123", Text("123")},
		{"last2", "äöü", Text("öü")},
		{"last1", "", Text("")},
		{"prefix3", "Zürich", Text("Zür")},
		{"prefix3", "Zü", Text("Zü")},
		{"prefix3", "", Text("")},
		{"digits", "+1 (555) 010-9999", Text("15550109999")},
		{"digits", "none ٣", Text("")}, // \d is ASCII in Ruby
		{"domain", "Ada@Example.ORG", Text("example.org")},
		{"domain", `"a@b"@c.d`, Text("c.d")},
		{"domain", "nobody", null},
		{"domain", "nobody@", null},
		{"domain", "", null},
		{"presence", "", null},
		{"presence", " \t\n\u00a0\u3000", null},
		{"presence", " a ", Text(" a ")},
		{"presence", "\u200b", Text("\u200b")}, // zero width space is no white space
		{"presence+lower+prefix2", "ADA", Text("ad")},
		{"digits+presence", "none", null},
	} {
		e, err := ParseExpression(c.name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := e(Text(c.text))
		if err != nil || got.IsNull() != c.want.IsNull() || got.Text() != c.want.Text() {
			t.Errorf("%s(%q) = %q, NULL %t, %v, want %q, NULL %t", c.name, c.text, got.Text(), got.IsNull(), err, c.want.Text(), c.want.IsNull())
		}
		if got, err := e(null); err != nil || !got.IsNull() {
			t.Errorf("%s(NULL) = %q, %v, want NULL", c.name, got.Text(), err)
		}
		if _, err := e(Text("a\xff@b")); !errors.Is(err, ErrValue) {
			t.Errorf("%s(invalid UTF-8) = %v, want %v", c.name, err, ErrValue)
		}
	}
	if p, err := Last(0)(Text("ada")); err != nil || p.IsNull() || p.Text() != "" {
		t.Errorf("Last(0) = %q, %v, want the empty text", p.Text(), err)
	}
	if p, err := Prefix(0)(Text("ada")); err != nil || p.IsNull() || p.Text() != "" {
		t.Errorf("Prefix(0) = %q, %v, want the empty text", p.Text(), err)
	}
}

// Lower maps every character as Ruby 3.1 does, but for letters that came with
// Unicode 14 and 15. If the digest changes, indexes change.
func TestLowerIsDowncase(t *testing.T) {
	t.Parallel()
	newer := func(r rune) bool {
		return strings.ContainsRune("\u2c2f\ua7c0\ua7d0\ua7d6\ua7d8", r) || 0x10570 <= r && r <= 0x10595
	}
	// Of the lines "code point, its lower case" in hex, of all that change,
	// written with Ruby 3.1.2 (Unicode 13).
	const want = "77316da94af62950c275470004dd732a3c5a58eac9a8f6721f161221c54b7f9f"
	digest := sha256.New()
	for r := range rune(utf8.MaxRune + 1) {
		if !utf8.ValidRune(r) || newer(r) {
			continue
		}
		p, err := Lower(Text(string(r)))
		if err != nil {
			t.Fatalf("Lower(%U) = %v", r, err)
		}
		if p.Text() == string(r) {
			continue
		}
		fmt.Fprintf(digest, "%x", r)
		for _, lower := range p.Text() {
			fmt.Fprintf(digest, " %x", lower)
		}
		fmt.Fprintln(digest)
	}
	if got := fmt.Sprintf("%x", digest.Sum(nil)); got != want {
		t.Errorf("digest of Lower over all characters = %s, want %s", got, want)
	}
}

func TestParseExpressionRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "upper", "Lower", "last", "last0", "last04", "last-1", "last+4", "last 4", "last99999", "prefixx", "lower+", "+lower", "lower++digits", "lower,digits"} {
		if _, err := ParseExpression(text); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("ParseExpression(%q) = %v, want %v", text, err, kmsencrypted.ErrConfig)
		}
	}
}

func FuzzParseExpression(f *testing.F) {
	for _, seed := range []string{"lower", "last4", "prefix3+digits", "presence+domain", "last04", "+", ""} {
		f.Add(seed, "Ada@Example.ORG")
	}
	f.Fuzz(func(t *testing.T, expression, value string) {
		e, err := ParseExpression(expression)
		if err != nil {
			if !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("ParseExpression(%q) = %v, want %v", expression, err, kmsencrypted.ErrConfig)
			}
			return
		}
		if _, err := e(Text(value)); err != nil && !errors.Is(err, ErrValue) {
			t.Errorf("%s(%q) = %v, want %v or nothing", expression, value, err, ErrValue)
		}
	})
}

// The ready expressions are idempotent, return valid text, and make nothing of
// NULL; invalid text they refuse.
func FuzzExpressions(f *testing.F) {
	for _, seed := range []string{"", "Ada@Example.ORG", "İ@İ", "ΑΣ", "4111 1111", " \u3000", "\xff", "äöü\u0308"} {
		f.Add(seed, uint16(3))
	}
	f.Fuzz(func(t *testing.T, text string, n uint16) {
		for name, e := range map[string]Expression{
			"Lower": Lower, "Digits": Digits, "Presence": Presence, "Domain": Domain,
			"Last": Last(uint(n)), "Prefix": Prefix(uint(n)),
		} {
			once, err := e(Text(text))
			if (err == nil) != utf8.ValidString(text) {
				t.Fatalf("%s(%q) = %v", name, text, err)
			}
			if err != nil || once.IsNull() {
				continue
			}
			if !utf8.ValidString(once.Text()) {
				t.Errorf("%s(%q) = %q, want valid text", name, text, once.Text())
			}
			checkCut(t, name, text, once.Text(), int(n))
			if name == "Domain" {
				continue // what follows an @ has none
			}
			if twice, err := e(once); err != nil || twice.Text() != once.Text() {
				t.Errorf("%s(%s(%q)) = %q, %v, want %q", name, name, text, twice.Text(), err, once.Text())
			}
		}
	})
}

// checkCut compares Last and Prefix with the same on a slice of characters.
func checkCut(t *testing.T, name, text, got string, n int) {
	t.Helper()
	characters := []rune(text)
	n = min(n, len(characters))
	want := map[string]string{"Last": string(characters[len(characters)-n:]), "Prefix": string(characters[:n])}
	if w, ok := want[name]; ok && got != w {
		t.Errorf("%s(%q) = %q, want %q", name, text, got, w)
	}
}
