package rubycompat

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/kmsencrypted/kmsencrypted/internal/unicode15"
)

// InspectString returns the result of Ruby's String#inspect for a UTF-8 string.
func InspectString(s string) string {
	var b strings.Builder
	writeQuoted(&b, s, true)
	return b.String()
}

// InspectSymbol returns the result of Ruby's Symbol#inspect: bare for
// identifiers and operators, quoted for everything else.
func InspectSymbol(name string) string {
	if bareSymbol(name) {
		return ":" + name
	}
	var b strings.Builder
	b.WriteByte(':')
	// A symbol of only ASCII characters has Ruby's US-ASCII encoding, which has no
	// \u escapes.
	writeQuoted(&b, name, !isASCII(name))
	return b.String()
}

var (
	symbolShape = regexp.MustCompile(`^(?:[A-Za-z_\x{80}-\x{10FFFF}][A-Za-z0-9_\x{80}-\x{10FFFF}]*[!?=]?` +
		`|@{1,2}[A-Za-z_\x{80}-\x{10FFFF}][A-Za-z0-9_\x{80}-\x{10FFFF}]*` +
		`|\$(?:[A-Za-z_\x{80}-\x{10FFFF}][A-Za-z0-9_\x{80}-\x{10FFFF}]*|[0-9]+|-[A-Za-z0-9_]|[~*$?!@/\\;,.=:<>"&` + "`" + `'+]))$`)
	operators = strings.Fields("+ - * / % ** ! ~ +@ -@ & | ^ << >> < > <= >= == === != =~ !~ <=> [] []= `")
)

func bareSymbol(name string) bool {
	for _, r := range name {
		if !printable(r) {
			return false
		}
	}
	return symbolShape.MatchString(name) || slices.Contains(operators, name)
}

// printable follows Ruby's regexp engine, which unlike Go includes format
// characters and every kind of space but the two separators. The order of the
// names in an encryption context depends on it, so the table is frozen.
func printable(r rune) bool {
	return unicode15.IsAssigned(r) && !unicode.In(r, unicode.Cc, unicode.Cs, unicode.Zl, unicode.Zp) // these never grow
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}

var named = map[rune]string{
	'"': `\"`, '\\': `\\`, '\a': `\a`, '\b': `\b`, '\t': `\t`, '\n': `\n`, '\v': `\v`, '\f': `\f`, '\r': `\r`, 0x1b: `\e`,
}

func writeQuoted(b *strings.Builder, s string, unicodeEscapes bool) {
	b.WriteByte('"')
	for i, r := range s {
		escape, isNamed := named[r]
		switch {
		case isNamed:
			b.WriteString(escape)
		case r == '#' && i+1 < len(s) && strings.IndexByte("{$@", s[i+1]) >= 0:
			b.WriteString(`\#`)
		case printable(r):
			b.WriteRune(r)
		case !unicodeEscapes:
			fmt.Fprintf(b, `\x%02X`, r)
		case r > 0xFFFF:
			fmt.Fprintf(b, `\u{%X}`, r)
		default:
			fmt.Fprintf(b, `\u%04X`, r)
		}
	}
	b.WriteByte('"')
}
