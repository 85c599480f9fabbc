package blindindex

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

type email string

func TestPlaintextOf(t *testing.T) {
	t.Parallel()
	type digest [2]byte
	number, text := 7, "x"
	pointer := &text
	for _, c := range []struct {
		value any
		want  Plaintext
	}{
		{nil, Plaintext{}}, {(*string)(nil), Plaintext{}}, {[]byte(nil), Plaintext{}}, {Plaintext{}, Plaintext{}},
		{"", Text("")}, {[]byte{}, Text("")}, {"a\xff", Text("a\xff")}, {[]byte{255, 254}, Text("\xff\xfe")},
		{email("a@b"), Text("a@b")}, {&text, Text("x")}, {&pointer, Text("x")}, {Text("x"), Text("x")},
		{123, Text("123")}, {"123", Text("123")}, {int8(-5), Text("-5")}, {uint64(math.MaxUint64), Text("18446744073709551615")},
		{&number, Text("7")}, {time.Duration(5), Text("5")},
		{true, Text("true")}, {false, Text("false")},
		{1.5, Text("1.5")}, {2.0, Text("2.0")}, {1e20, Text("1.0e+20")},
	} {
		got, err := PlaintextOf(c.value)
		if err != nil || got.IsNull() != c.want.IsNull() || got.Text() != c.want.Text() {
			t.Errorf("PlaintextOf(%#v) = %q, NULL %t, %v, want %q", c.value, got.Text(), got.IsNull(), err, c.want.Text())
		}
	}
	for _, value := range []any{time.Now(), struct{}{}, []string{"a"}, map[string]int{}, float32(0.1), 1i, digest{}, errors.New("secret"), func() {}} {
		_, err := PlaintextOf(value)
		if !errors.Is(err, ErrValue) || strings.Contains(err.Error(), "secret") {
			t.Errorf("PlaintextOf(%T) = %v, want %v without the value", value, err, ErrValue)
		}
	}
}

func TestCompound(t *testing.T) {
	t.Parallel()
	seen := map[string][]any{}
	for _, fields := range [][]any{{}, {""}, {"", ""}, {"ab", "c"}, {"a", "bc"}, {"abc"}, {"a", "b", "c"}} {
		p, err := Compound(fields...)
		if err != nil || p.IsNull() {
			t.Fatalf("Compound(%q) = NULL %t, %v, want text", fields, p.IsNull(), err)
		}
		if other, ok := seen[p.Text()]; ok {
			t.Errorf("Compound(%q) = Compound(%q), want them to differ", fields, other)
		}
		seen[p.Text()] = fields
	}
	if p, err := Compound("a", nil, "c"); err != nil || !p.IsNull() {
		t.Errorf("Compound(a, NULL, c) = NULL %t, %v, want NULL", p.IsNull(), err)
	}
	if _, err := Compound("a", time.Now()); !errors.Is(err, ErrValue) {
		t.Errorf("Compound with a time = %v, want %v", err, ErrValue)
	}
}

// Compound tells any two pairs apart.
func FuzzCompound(f *testing.F) {
	f.Add("ab", "c", "a", "bc")
	f.Add("", "a", "a", "")
	f.Add("\x00\x00\x00\x01a", "", "", "\x00\x00\x00\x01a")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		one, err := Compound(a, b)
		if err != nil {
			t.Fatal(err)
		}
		other, err := Compound(c, d)
		if err != nil {
			t.Fatal(err)
		}
		if same := a == c && b == d; (one.Text() == other.Text()) != same {
			t.Errorf("Compound(%q, %q) equals Compound(%q, %q): %t, want %t", a, b, c, d, !same, same)
		}
	})
}
