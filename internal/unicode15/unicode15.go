// Package unicode15 has the character properties that stored values depend on, as
// in Unicode 15.0.0, independent of the release of Go that compiles the program.
//
// Package unicode follows the Unicode Standard: Go 1.26 has Unicode 15, Go 1.27
// has 17. A blind index or an encryption context computed from its tables could
// change with the compiler, and older rows would not be found, or not open, any
// more. So the tables are frozen here. A character added in a later version of
// Unicode counts as unassigned: it is not a letter, and its lower case is itself.
package unicode15

import "slices"

//go:generate go run ./generate

// set is a set of characters: the alternating beginnings and ends of its ranges.
type set []rune

func (s set) has(r rune) bool {
	i, found := slices.BinarySearch(s, r)
	if found {
		i++
	}
	return i%2 == 1
}

// span is every step-th character from first to last, and the distance to the
// lower case of each.
type span struct{ first, last, step, distance rune }

// ToLower returns the lower case of a character, or the character itself, as
// [unicode.ToLower] does.
func ToLower(r rune) rune {
	if r <= '\u007f' {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	i, found := slices.BinarySearchFunc(lower, r, func(s span, r rune) int {
		switch {
		case s.last < r:
			return -1
		case s.first > r:
			return 1
		}
		return 0
	})
	if found && (r-lower[i].first)%lower[i].step == 0 {
		return r + lower[i].distance
	}
	return r
}

// IsAssigned reports whether Unicode 15 assigns the character. Control
// characters, surrogates and private-use characters count as assigned.
func IsAssigned(r rune) bool { return assigned.has(r) }

// IsLetter is [unicode.IsLetter]: category L.
func IsLetter(r rune) bool { return letters.has(r) }

// IsDigit is [unicode.IsDigit]: category Nd.
func IsDigit(r rune) bool { return digits.has(r) }

// IsNonspacingMark reports whether the character is an accent or another mark
// without width: category Mn.
func IsNonspacingMark(r rune) bool { return marks.has(r) }

// IsSpace is [unicode.IsSpace]: the property White_Space.
func IsSpace(r rune) bool { return spaces.has(r) }

// IsPrint is [unicode.IsPrint]: letters, marks, numbers, punctuation, symbols and
// the ASCII space.
func IsPrint(r rune) bool { return printable.has(r) }
