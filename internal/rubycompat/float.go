package rubycompat

import (
	"bytes"
	"math"
	"strconv"
)

// AppendFloat appends f like Ruby's Float#to_s, which is also how Ruby writes a
// float as JSON: 1.0, 1.0e-05, -0.0. NaN and infinities, which JSON cannot
// represent, are NaN, Infinity and -Infinity.
func AppendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 0):
		if f < 0 {
			dst = append(dst, '-')
		}
		return append(dst, "Infinity"...)
	case f == 0:
		if math.Signbit(f) {
			dst = append(dst, '-')
		}
		return append(dst, "0.0"...)
	}
	// The shortest digits that read back the same, as d.ddde±xx.
	text := strconv.AppendFloat(nil, math.Abs(f), 'e', -1, 64)
	mantissa, exponent, _ := bytes.Cut(text, []byte("e"))
	digits := bytes.ReplaceAll(mantissa, []byte("."), nil)
	exp, _ := strconv.Atoi(string(exponent))
	point := exp + 1 // digits before the decimal point

	if f < 0 {
		dst = append(dst, '-')
	}
	switch {
	case -4 < point && point <= 0:
		dst = append(dst, "0."...)
		dst = append(dst, bytes.Repeat([]byte("0"), -point)...)
		return append(dst, digits...)
	case 0 < point && point < len(digits) && point <= 16:
		dst = append(dst, digits[:point]...)
		dst = append(dst, '.')
		return append(dst, digits[point:]...)
	case len(digits) <= point && point <= 15:
		dst = append(dst, digits...)
		dst = append(dst, bytes.Repeat([]byte("0"), point-len(digits))...)
		return append(dst, ".0"...)
	}
	dst = append(dst, digits[0], '.')
	if len(digits) == 1 {
		dst = append(dst, '0')
	}
	dst = append(dst, digits[1:]...)
	dst = append(dst, 'e')
	return append(dst, exponent...)
}
