package unicode15

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"
	"unicode"
)

// properties of a character, ours and package unicode's.
var properties = []struct {
	name         string
	ours, theirs func(rune) bool
}{
	{"IsLetter", IsLetter, unicode.IsLetter},
	{"IsDigit", IsDigit, unicode.IsDigit},
	{"IsNonspacingMark", IsNonspacingMark, func(r rune) bool { return unicode.Is(unicode.Mn, r) }},
	{"IsSpace", IsSpace, unicode.IsSpace},
	{"IsPrint", IsPrint, unicode.IsPrint},
	{"IsAssigned", IsAssigned, func(r rune) bool {
		return unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.C) && !unicode.Is(unicode.Cn, r)
	}},
}

func skipOtherVersion(tb testing.TB) {
	if unicode.Version != Version {
		tb.Skipf("this release of Go has Unicode %s: there is nothing to compare with", unicode.Version)
	}
}

// A release of Go with Unicode 15 says of every character what the tables say.
func TestTablesAreUnicodes(t *testing.T) {
	t.Parallel()
	skipOtherVersion(t)
	for r := rune(-1); r <= unicode.MaxRune+1; r++ {
		if got, want := ToLower(r), unicode.ToLower(r); got != want {
			t.Errorf("ToLower(%U) = %U, want %U", r, got, want)
		}
		for _, p := range properties {
			if got, want := p.ours(r), p.theirs(r); got != want {
				t.Errorf("%s(%U) = %t, want %t", p.name, r, got, want)
			}
		}
	}
}

// Under every release of Go the tables are these. Written with Go 1.26.
func TestTablesAreFrozen(t *testing.T) {
	t.Parallel()
	const want = "6a051236bc04e1ff375b1cc841ea6c09df6ae6edcffa56479303db74970dc939"
	var all []byte
	for r := rune(0); r <= unicode.MaxRune; r++ {
		all = binary.BigEndian.AppendUint32(all, uint32(ToLower(r)))
		var bits byte
		for i, p := range properties {
			if p.ours(r) {
				bits |= 1 << i
			}
		}
		all = append(all, bits)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(all)); got != want {
		t.Errorf("digest of the tables = %s, want %s", got, want)
	}
}

// Characters of Unicode 16 and 17 that package unicode knows from Go 1.27 on.
func TestNewerCharactersAreUnassigned(t *testing.T) {
	t.Parallel()
	for _, r := range []rune{0xa7cb, 0xa7cc, 0xa7da, 0xa7dc, 0x10d50, 0x16ea0} {
		if got := ToLower(r); got != r {
			t.Errorf("ToLower(%U) = %U, want the character itself", r, got)
		}
		for _, p := range properties {
			if p.ours(r) {
				t.Errorf("%s(%U) = true, want false", p.name, r)
			}
		}
	}
}

func FuzzToLower(f *testing.F) {
	for _, seed := range []rune{'A', 'z', 'Σ', 'İ', 0x10fff, 0xa7cb, 0x1e900, -1} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, r rune) {
		lower := ToLower(r)
		if again := ToLower(lower); again != lower {
			t.Errorf("ToLower(%U) = %U, of which it is %U", r, lower, again)
		}
		if lower != r && (!IsAssigned(r) || !IsAssigned(lower)) {
			t.Errorf("ToLower(%U) = %U, want assigned characters", r, lower)
		}
		skipOtherVersion(t)
		if want := unicode.ToLower(r); lower != want {
			t.Errorf("ToLower(%U) = %U, want %U", r, lower, want)
		}
	})
}

func BenchmarkToLower(b *testing.B) {
	for b.Loop() {
		for r := rune(0x80); r < 0x480; r++ {
			ToLower(r)
		}
	}
}
