package lockbox

import (
	"math/big"
	"strconv"
	"strings"
)

// Decimal is an exact decimal number as text in the form that Ruby's BigDecimal
// writes: "1.5", "-0.0", "1000.0", "NaN", "Infinity" or "-Infinity".
//
// Convert text with [ParseDecimal] and numbers with [DecimalOf]. A plain conversion
// is only checked when the value is written. The zero value is not a number and
// cannot be written.
type Decimal string

// maxDecimal limits the digits of a decimal, so that an exponent of a billion does
// not become a text of a gigabyte.
const maxDecimal = 1 << 16

// ParseDecimal parses a number in decimal notation, with or without an exponent. It
// returns [kmsencrypted.ErrConfig] for anything else and for a number of more than
// 65536 digits.
func ParseDecimal(text string) (Decimal, error) {
	n, rest := scanNumber(text)
	if rest != "" || !n.special && !n.number {
		return "", configError("not a decimal number")
	}
	d, ok := n.decimal()
	if !ok {
		return "", configError("a decimal of more than %d digits", maxDecimal)
	}
	return d, nil
}

// DecimalOf returns the exact decimal form of r. It returns [kmsencrypted.ErrConfig]
// for a number without finite decimals, such as 1/3, and for one of more than 65536
// digits.
func DecimalOf(r *big.Rat) (Decimal, error) {
	digits, exact := r.FloatPrec()
	if !exact || digits > maxDecimal {
		return "", configError("a number without finite decimals, or with too many")
	}
	return ParseDecimal(r.FloatString(digits))
}

// Rat returns the exact number. ok is false for NaN, the infinities and text that is
// not a decimal.
func (d Decimal) Rat() (r *big.Rat, ok bool) {
	n, rest := scanNumber(string(d))
	if rest != "" || !n.number {
		return nil, false
	}
	if d, ok = n.decimal(); !ok {
		return nil, false
	}
	return new(big.Rat).SetString(string(d))
}

func appendDecimal(dst []byte, v Decimal) ([]byte, error) {
	d, err := ParseDecimal(string(v))
	return append(dst, d...), err
}

// parseDecimal parses like Ruby's to_d: as much of the text as is a number, or zero
// if none of it is.
func parseDecimal(plaintext []byte) (Decimal, bool, error) {
	text := string(plaintext)
	switch {
	case strings.Trim(text, space) == "":
		return "", true, nil
	case strings.ContainsRune(text, 0):
		return "0.0", false, nil
	}
	n, rest := scanNumber(text)
	if n.special && strings.Trim(rest, space) != "" {
		return "0.0", false, nil
	}
	d, ok := n.decimal()
	if !ok {
		return "", false, malformed("a decimal of more than %d digits", maxDecimal)
	}
	return d, false, nil
}

// space is the white space that Ruby skips before a number.
const space = " \t\n\v\f\r"

// scanned is a parsed number: 0.<digits> × 10^point.
type scanned struct {
	negative bool
	digits   string // without zeros at either end
	point    int
	number   bool // whether there was at least one digit
	special  bool // NaN or Infinity, named by digits
	tooLarge bool // the exponent is out of all bounds
}

// scanNumber parses the number at the beginning of text and returns the rest.
func scanNumber(text string) (n scanned, rest string) {
	text = strings.TrimLeft(text, space)
	if rest, ok := strings.CutPrefix(text, "NaN"); ok {
		return scanned{digits: "NaN", special: true}, rest
	}
	if text != "" && (text[0] == '+' || text[0] == '-') {
		n.negative = text[0] == '-'
		text = text[1:]
	}
	if rest, ok := strings.CutPrefix(text, "Infinity"); ok {
		n.digits, n.special = "Infinity", true
		return n, rest
	}
	whole, text := scanDigits(text)
	fraction := ""
	if after, ok := strings.CutPrefix(text, "."); ok {
		if digits, rest := scanDigits(after); digits != "" || whole != "" {
			fraction, text = digits, rest
		}
	}
	if n.number = whole+fraction != ""; !n.number {
		return n, text
	}
	exponent := 0
	if text != "" && strings.IndexByte("eEdD", text[0]) >= 0 {
		after, sign := text[1:], 1
		if after != "" && (after[0] == '+' || after[0] == '-') {
			if after[0] == '-' {
				sign = -1
			}
			after = after[1:]
		}
		if digits, rest := scanDigits(after); digits != "" {
			value, err := strconv.Atoi(digits)
			n.tooLarge = err != nil || value > maxDecimal
			exponent, text = sign*min(value, maxDecimal), rest
		}
	}
	n.digits = strings.TrimLeft(whole+fraction, "0")
	n.point = len(n.digits) - len(fraction) + exponent
	n.digits = strings.TrimRight(n.digits, "0")
	return n, text
}

// scanDigits parses digits, with single underscores between them.
func scanDigits(text string) (digits, rest string) {
	i := 0
	for i < len(text) && (isDigit(text[i]) || text[i] == '_' && i > 0 && isDigit(text[i-1]) && i+1 < len(text) && isDigit(text[i+1])) {
		i++
	}
	return strings.ReplaceAll(text[:i], "_", ""), text[i:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// decimal returns the number in plain notation, with at least one digit on either
// side of the point. ok is false if that would be too long.
func (n scanned) decimal() (d Decimal, ok bool) {
	text := n.digits
	switch {
	case n.special:
	case n.digits == "":
		text = "0.0"
	case n.tooLarge || n.point > maxDecimal || len(n.digits)-n.point > maxDecimal:
		return "", false
	case n.point <= 0:
		text = "0." + strings.Repeat("0", -n.point) + n.digits
	case n.point >= len(n.digits):
		text = n.digits + strings.Repeat("0", n.point-len(n.digits)) + ".0"
	default:
		text = n.digits[:n.point] + "." + n.digits[n.point:]
	}
	if n.negative {
		text = "-" + text
	}
	return Decimal(text), true
}
