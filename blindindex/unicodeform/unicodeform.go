// Package unicodeform has expressions for blind indexes that make texts equal
// that look equal: normalisation, case folding and the removal of accents. It is
// a separate package because it imports the Unicode tables of golang.org/x/text.
//
// All of them refuse text that is not valid UTF-8 with [blindindex.ErrValue] and
// keep NULL.
//
// An index value depends neither on the release of Go nor on that of
// golang.org/x/text: the expressions do not change characters that Unicode 15.0.0
// does not know. For the others, Unicode guarantees that later versions normalise
// and fold them in the same way.
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
// unicode_normalize, except for text with more than 30 combining marks in a row,
// into which it inserts U+034F (stream-safe text, UAX 15 section 13). Use it for
// everything that people type.
//
// Leaks: nothing more than the value as it is.
func NFC(p blindindex.Plaintext) (blindindex.Plaintext, error) { return nfc(p) }

// NFKC composes, and replaces compatibility characters by plain ones: ﬁ becomes
// fi, Ａ becomes A, ² becomes 2. It is Ruby's unicode_normalize(:nfkc), with the
// same exception as [NFC], and except for modifier letters added in Unicode 14
// and 15 if Ruby is older than 3.2.
//
// Leaks: which rows are equal but for such characters.
func NFKC(p blindindex.Plaintext) (blindindex.Plaintext, error) { return nfkc(p) }

// Fold makes texts equal that differ in case or in compatibility characters: ß
// and SS, Σ and ς, ﬁ and FI, İ and i̇. It folds case fully and normalises with
// NFKC before and after, the caseless compatibility match of the Unicode Standard
// (section 3.13, D146). The result is not meant to be displayed.
//
// Leaks: which rows are equal but for case and such characters.
func Fold(p blindindex.Plaintext) (blindindex.Plaintext, error) { return fold(p) }

// Unaccented is [Fold] without accents and other marks: "Zoë", "ZOE" and "zoe"
// are equal. It keeps letters that are not composed of a base and a mark: ø and o
// differ. In scripts whose vowels are marks it makes different words equal; use
// it for names in Latin, Greek and Cyrillic letters.
//
// Leaks: which rows are equal but for case and accents.
func Unaccented(p blindindex.Plaintext) (blindindex.Plaintext, error) { return unaccented(p) }

var (
	nfc        = transform(norm.NFC.String)
	nfkc       = transform(norm.NFKC.String)
	fold       = transform(foldText)
	unaccented = transform(unaccent)
)

// transform applies f to the text between characters that Unicode 15 does not
// know. In its tables these have no case, do not decompose or combine, and no
// mark moves across them. So f of the parts is f of the whole.
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

// foldText repeats folding and normalising because each can enable the other:
// U+1D400 is an upper case letter only after normalisation.
func foldText(text string) string {
	text = caseFold(norm.NFD.String(text))
	text = caseFold(norm.NFKD.String(text))
	return norm.NFKC.String(text)
}

// caseFold creates a new Caser each time, because a Caser may keep state and is
// not safe for concurrent use.
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
