package rubycompat

import (
	"errors"
	"unicode/utf8"
)

// Escapes lists the characters that a Ruby process writes as \u escapes in
// addition to those that JSON requires. It depends on what the process loaded
// and how Rails is configured (formats.md calls it "elsewhere").
type Escapes struct {
	HTML         bool // < > &
	JSSeparators bool // U+2028 and U+2029
}

// JSONEscapes lists the ways in which a Ruby process may have written a string:
// Rails' default first, then Rails 8.1's, Rails without HTML escapes, and plain
// Ruby.
var JSONEscapes = [...]Escapes{{true, true}, {true, false}, {false, true}, {false, false}}

// ErrEncoding reports text that is not valid UTF-8, which Ruby refuses to write
// as JSON.
var ErrEncoding = errors.New("text is not valid UTF-8")

// AppendJSONString appends s as a JSON string, in quotes, byte for byte as Ruby
// writes it.
func AppendJSONString(dst []byte, s string, escapes Escapes) ([]byte, error) {
	if isPlain(s) {
		return append(append(append(dst, '"'), s...), '"'), nil
	}
	if !utf8.ValidString(s) {
		return dst, ErrEncoding
	}
	dst = append(dst, '"')
	for _, r := range s {
		dst = appendJSONRune(dst, r, escapes)
	}
	return append(dst, '"'), nil
}

// isPlain reports whether s is ASCII without characters to escape, as most names
// and ids are.
func isPlain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20, c > 0x7E, c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

func appendJSONRune(dst []byte, r rune, escapes Escapes) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, '\\', 'b')
	case '\t':
		return append(dst, '\\', 't')
	case '\n':
		return append(dst, '\\', 'n')
	case '\f':
		return append(dst, '\\', 'f')
	case '\r':
		return append(dst, '\\', 'r')
	}
	html := r == '<' || r == '>' || r == '&'
	separator := r == '\u2028' || r == '\u2029'
	if r < 0x20 || html && escapes.HTML || separator && escapes.JSSeparators {
		const hex = "0123456789abcdef"
		return append(dst, '\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15])
	}
	return utf8.AppendRune(dst, r)
}
