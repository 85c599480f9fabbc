package blindindex

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
)

func prefixes(t testing.TB, o Options, least, most int) *PrefixIndex {
	t.Helper()
	x, err := NewPrefixIndex(fast(t, o), least, most)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestPrefixIndex(t *testing.T) {
	t.Parallel()
	x := prefixes(t, Options{Expression: Lower}, 2, 4)
	whole := fast(t, Options{})
	for _, c := range []struct {
		value any
		want  []string
	}{
		{nil, nil},
		{"", nil},
		{"A", nil},
		{"Äd", []string{"äd"}},
		{"Lovelace", []string{"lo", "lov", "love"}},
		{"İx", []string{"i\u0307", "i\u0307x"}},
	} {
		got, err := x.Compute(c.value)
		var want []Column
		for _, text := range c.want {
			want = append(want, compute(t, whole, text))
		}
		slices.SortFunc(want, func(a, b Column) int { return strings.Compare(a.Text(), b.Text()) })
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Compute(%v) = %d columns, %v, want those of %q, sorted", c.value, len(got), err, c.want)
		}
	}
	for _, c := range []struct{ beginning, text string }{{"LO", "lo"}, {"love", "love"}, {"LOVELACE", "love"}} {
		lookup, err := x.Lookup(c.beginning)
		if want := compute(t, whole, c.text); err != nil || lookup.Name != x.Name() || !slices.Equal(lookup.Columns, []Column{want}) {
			t.Errorf("Lookup(%q) = %d columns, %v, want that of %q", c.beginning, len(lookup.Columns), err, c.text)
		}
	}
	for _, beginning := range []any{nil, "", "l", "ä", "a\xffb", 1.5i} {
		if _, err := x.Lookup(beginning); !errors.Is(err, ErrValue) {
			t.Errorf("Lookup(%q) = %v, want %v", beginning, err, ErrValue)
		}
	}
	if _, err := x.Compute("a\xffb"); !errors.Is(err, ErrValue) {
		t.Errorf("Compute(invalid UTF-8) = %v, want %v", err, ErrValue)
	}
	for _, limits := range [][2]int{{0, 4}, {-1, 4}, {3, 2}} {
		if _, err := NewPrefixIndex(whole, limits[0], limits[1]); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("NewPrefixIndex(%d, %d) = %v, want %v", limits[0], limits[1], err, kmsencrypted.ErrConfig)
		}
	}
}

// Whatever begins a value finds it, and nothing else short enough does.
func FuzzPrefixIndex(f *testing.F) {
	f.Add("Lovelace", "love")
	f.Add("äöü", "äö")
	f.Add("a", "b")
	f.Add("\xff", "a")
	f.Fuzz(func(t *testing.T, value, beginning string) {
		x := prefixes(t, Options{}, 1, 5)
		stored, err := x.Compute(value)
		if (err == nil) != utf8.ValidString(value) {
			t.Fatalf("Compute(%q) = %v", value, err)
		}
		lookup, lookupErr := x.Lookup(beginning)
		if err != nil || lookupErr != nil {
			return
		}
		found := slices.Contains(stored, lookup.Columns[0])
		if want := strings.HasPrefix(value, firstRunes(beginning, 5)); found != want {
			t.Errorf("Lookup(%q) finds %q: %t, want %t", beginning, value, found, want)
		}
	})
}
