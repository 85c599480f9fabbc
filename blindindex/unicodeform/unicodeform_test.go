package unicodeform_test

import (
	"errors"
	"fmt"
	"testing"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/blindindex/unicodeform"
)

// expressions are the exported ones by name.
var expressions = map[string]blindindex.Expression{
	"NFC": unicodeform.NFC, "NFKC": unicodeform.NFKC, "Fold": unicodeform.Fold, "Unaccented": unicodeform.Unaccented,
}

func apply(t testing.TB, name, text string) string {
	t.Helper()
	p, err := expressions[name](blindindex.Text(text))
	if err != nil || p.IsNull() {
		t.Fatalf("%s(%q) = NULL %t, %v, want text", name, text, p.IsNull(), err)
	}
	return p.Text()
}

func TestExpressions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"NFC", "Zu\u0308rich", "Z\u00fcrich"},
		{"NFC", "\u212b", "\u00c5"}, // the Ångström sign is an alias
		{"NFC", "ﬁ", "ﬁ"},
		{"NFC", "", ""},
		{"NFKC", "ﬁ\uff21²", "fiA2"},
		{"Fold", "STRASSE", "strasse"},
		{"Fold", "Straße", "strasse"},
		{"Fold", "ΌΔΟΣ", "όδοσ"},
		{"Fold", "όδος", "όδοσ"},
		{"Fold", "\u0130", "i\u0307"},
		{"Fold", "\U0001d400", "a"}, // mathematical bold A
		{"Fold", "ZU\u0308RICH", "z\u00fcrich"},
		{"Unaccented", "Zoë", "zoe"},
		{"Unaccented", "ZOE\u0308", "zoe"},
		{"Unaccented", "Đặng Ørsted", "đang ørsted"},
		{"Unaccented", "Ἀθῆναι", "αθηναι"},
	} {
		if got := apply(t, c.name, c.text); got != c.want {
			t.Errorf("%s(%+q) = %+q, want %+q", c.name, c.text, got, c.want)
		}
	}
}

func TestNullAndInvalidText(t *testing.T) {
	t.Parallel()
	for name, e := range expressions {
		if p, err := e(blindindex.Plaintext{}); err != nil || !p.IsNull() {
			t.Errorf("%s(NULL) = NULL %t, %v, want NULL", name, p.IsNull(), err)
		}
		if _, err := e(blindindex.Text("a\xff")); !errors.Is(err, blindindex.ErrValue) {
			t.Errorf("%s(invalid UTF-8) = %v, want %v", name, err, blindindex.ErrValue)
		}
	}
}

// Every expression is idempotent: what it returns it leaves alone. So a look-up
// by a value that was normalised before finds what a raw one finds.
func FuzzIdempotent(f *testing.F) {
	for _, seed := range []string{"", "Zürich", "Zu\u0308rich", "Straße", "ΌΔΟΣ", "İ", "ﬁ²", "\U0001d400", "\u0345\u0308α", "한글", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, e := range expressions {
			once, err := e(blindindex.Text(text))
			if utf8.ValidString(text) != (err == nil) {
				t.Fatalf("%s(%q) = %v", name, text, err)
			}
			if err != nil {
				continue
			}
			if twice := apply(t, name, once.Text()); twice != once.Text() {
				t.Errorf("%s(%s(%+q)) = %+q, want %+q", name, name, text, twice, once.Text())
			}
		}
	})
}

func Example() {
	names, err := blindindex.New(make([]byte, blindindex.KeySize), "name_bidx", blindindex.Options{
		Expression: unicodeform.Unaccented,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	stored, _ := names.Compute("Zoë")
	sought, _ := names.Compute("ZOE")
	fmt.Println(stored == sought)
	// Output: true
}
