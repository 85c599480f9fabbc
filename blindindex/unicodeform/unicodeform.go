// Package unicodeform has expressions for blind indexes that make texts equal
// which look equal: normalisation, case folding and the removal of accents. It
// is a package of its own because it brings the Unicode tables of
// golang.org/x/text with it.
//
// All of them refuse text that is not valid UTF-8 with [blindindex.ErrValue] and
// leave NULL alone.
//
// An index value depends neither on the release of Go nor on that of
// golang.org/x/text: the expressions leave every character alone that Unicode
// 15.0.0 does not know. For those that it knows, Unicode promises that later
// versions normalise and fold them in the same way.
package unicodeform

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/internal/unicode15"
)

// NFC composes: é in two characters becomes é in one. It is Ruby's
// unicode_normalize, but for text with more than 30 combining marks in a row,
// which gets a U+034F among them (stream-safe text, UAX 15 section 13). Use it for
// whatever people type.
//
// Leaks: nothing more than the value as it is.
func NFC(p blindindex.Plaintext) (blindindex.Plaintext, error) { return nfc(p) }

// NFKC composes, and replaces characters by their plain like: ﬁ becomes fi, Ａ
// becomes A, ² becomes 2. It is Ruby's unicode_normalize(:nfkc) with the same
// exception as [NFC], and but for modifier letters that came with Unicode 14 and
// 15, where Ruby is older than 3.2.
//
// Leaks: which rows are equal but for such characters.
func NFKC(p blindindex.Plaintext) (blindindex.Plaintext, error) { return nfkc(p) }

// Fold makes texts equal that differ in case or in compatibility characters: ß
// and SS, Σ and ς, ﬁ and FI, İ and i̇. It folds case fully and normalises with
// NFKC around it, the caseless compatibility match of the Unicode Standard
// (section 3.13, D146). It is not meant for reading: the result of folding may
// look odd.
//
// Leaks: which rows are equal but for case and such characters.
func Fold(p blindindex.Plaintext) (blindindex.Plaintext, error) { return fold(p) }

// Unaccented is [Fold] without accents and other marks: "Zoë", "ZOE" and "zoe"
// are equal. Letters that are not composed of a base and a mark stay: ø and o
// differ. In scripts whose vowels are marks it joins different words; it is
// meant for names in Latin, Greek and Cyrillic letters.
//
// Leaks: which rows are equal but for case and accents.
func Unaccented(p blindindex.Plaintext) (blindindex.Plaintext, error) { return unaccented(p) }

var (
	nfc        = transform(norm.NFC.String)
	nfkc       = transform(norm.NFKC.String)
	fold       = transform(foldText)
	unaccented = transform(unaccent)
)

// transform applies f to what is between characters that Unicode 15 does not
// know. To its tables these have no case, decompose into nothing, combine with
// nothing, and no mark moves across them, so that f of the parts is f of the
// whole.
func transform(f func(text string) string) blindindex.Expression {
	return blindindex.Transform(func(text string) string {
		at := strings.IndexFunc(text, unassigned)
		if at < 0 {
			return f(text)
		}
		var b strings.Builder
		for at >= 0 {
			_, size := utf8.DecodeRuneInString(text[at:])
			b.WriteString(f(text[:at]))
			b.WriteString(text[at : at+size])
			text = text[at+size:]
			at = strings.IndexFunc(text, unassigned)
		}
		b.WriteString(f(text))
		return b.String()
	})
}

func unassigned(r rune) bool { return !unicode15.IsAssigned(r) }

// foldText repeats folding and normalising because each can make work for the
// other: U+1D400 is an upper case letter only once it is normalised.
func foldText(text string) string {
	text = caseFold(norm.NFD.String(text))
	text = caseFold(norm.NFKD.String(text))
	return norm.NFKC.String(text)
}

// caseFold makes its Caser anew: a Caser may keep state and is not safe for
// concurrent use.
func caseFold(text string) string { return cases.Fold().String(text) }

func unaccent(text string) string {
	bare := strings.Map(func(r rune) rune {
		if unicode15.IsNonspacingMark(r) {
			return -1
		}
		return r
	}, norm.NFD.String(foldText(text)))
	return norm.NFC.String(bare)
}
