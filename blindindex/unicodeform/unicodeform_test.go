package unicodeform_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/blindindex/unicodeform"
	"github.com/kmsencrypted/kmsencrypted/internal/unicode15"
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

// alphabet has letters that change, marks, Hangul, and characters that Unicode 15
// does not know: from Unicode 16 and 17, and one that nobody has assigned.
var alphabet = []rune("aZßΣςİﬁ²\U0001d400가각\u0300\u0301\u0308\u0323\u0345\u0591\u034f\u1c89\ua7cb\U00010d50\U0001e6e3\U0001e6e6\U00010efa\u0378")

func randomText(random *rand.Rand) string {
	text := make([]rune, random.IntN(12))
	for i := range text {
		text[i] = alphabet[random.IntN(len(alphabet))]
	}
	if random.IntN(8) == 0 { // more marks than stream-safe text may have
		text = slices.Insert(text, random.IntN(len(text)+1), []rune(strings.Repeat("\u0301\u0323", 8+random.IntN(12)))...)
	}
	return string(text)
}

// With the tables of Unicode 15 the expressions are what x/text makes of the
// whole text.
func TestUnassignedCharactersStandApart(t *testing.T) {
	t.Parallel()
	if norm.Version != unicode15.Version {
		t.Skipf("golang.org/x/text has Unicode %s here: there is nothing to compare with", norm.Version)
	}
	random := rand.New(rand.NewPCG(15, 0))
	changed := 0
	for range 20_000 {
		text := randomText(random)
		for name, form := range map[string]norm.Form{"NFC": norm.NFC, "NFKC": norm.NFKC} {
			got, want := apply(t, name, text), form.String(text)
			if got != want {
				t.Fatalf("%s(%+q) = %+q, want %+q", name, text, got, want)
			}
			if got != text {
				changed++
			}
		}
		want := cases.Fold().String(norm.NFD.String(text))
		want = norm.NFKC.String(cases.Fold().String(norm.NFKD.String(want)))
		if got := apply(t, "Fold", text); got != want {
			t.Fatalf("Fold(%+q) = %+q, want %+q", text, got, want)
		}
	}
	if changed == 0 {
		t.Error("no text was changed")
	}
}

// Under every release of Go and of golang.org/x/text the values are these.
// Written with Go 1.26 and x/text v0.43.0, which have Unicode 15.
func TestValuesAreFrozen(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(15, 1))
	var texts []string
	for r := range rune(0xf0000) { // private use from there on
		if utf8.ValidRune(r) && (unicode15.IsAssigned(r) || r%97 == 0) {
			texts = append(texts, string(r))
		}
	}
	for range 20_000 {
		texts = append(texts, randomText(random))
	}
	for name, want := range map[string]string{
		"NFC":        "572d845810847fc27e40769789f0503044b0ca139d40613269da08ab45baf6cd",
		"NFKC":       "d2228e243e009860c72fa2fbf83151092b11b4ad9a33314eebcc68e2c4e76696",
		"Fold":       "42bd4ca14b9bf75f29171116b9138fbd1037548e168c3cfef12ffa0b9b65172a",
		"Unaccented": "951fdd94bbb80b9321205f2d39c78b0efd740ead5332d7bdfeb56b31f7774dab",
	} {
		digest := sha256.New()
		for _, text := range texts {
			io.WriteString(digest, apply(t, name, text)+"\n")
		}
		if got := fmt.Sprintf("%x", digest.Sum(nil)); got != want {
			t.Errorf("digest of %s = %s, want %s", name, got, want)
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
