// Package rubymarshal reads and writes Ruby's Marshal format 4.8 for plain
// values: nil, booleans, integers of any size, floats, strings with their
// encoding, symbols, arrays and hashes. It refuses objects of other classes: in
// Ruby, reading one runs code of the class; Go could only guess.
//
// Values are the Go types that package rubycompat lists for Ruby values, its
// DefaultHash, and [String] of this package. The work and memory of reading and
// writing are limited by the size of the input.
package rubymarshal

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// String is a Ruby string in an encoding other than UTF-8 (a Go string) and
// binary (a []byte).
type String struct {
	Bytes    []byte
	Encoding string // Ruby's name: "US-ASCII", "ISO-8859-1", "Shift_JIS"
}

// The header of the format, version 4.8.
const header = "\x04\x08"

// maxDepth bounds nesting, in both directions.
const maxDepth = 1000

// usASCII is written as a flag, not as a name.
const usASCII = "US-ASCII"

// Marshal returns v as written by Ruby's Marshal.dump. Other Go values are
// converted as [rubycompat.Reflection] describes. Marshal returns
// [kmsencrypted.ErrConfig] for a value without a Ruby form, such as a channel.
func Marshal(v any) ([]byte, error) {
	value, err := rubycompat.Reflection{MaxDepth: maxDepth, Leaf: stringLeaf}.Value(v)
	if err != nil {
		return nil, fmt.Errorf("marshal: %w: %w", kmsencrypted.ErrConfig, err)
	}
	e := &encoder{out: []byte(header), symbols: map[rubycompat.Symbol]int{}, floats: map[uint64]int{}, encodings: map[string]int{}, keys: map[string]int{}}
	e.value(value)
	return e.out, nil
}

func stringLeaf(v any) (any, bool, error) {
	s, ok := v.(String)
	return s, ok, nil
}

// encoder counts what Ruby counts: symbols, and objects that a link may refer
// to.
type encoder struct {
	out       []byte
	symbols   map[rubycompat.Symbol]int
	objects   int
	floats    map[uint64]int // objects by bits, for floats that Ruby does not allocate
	encodings map[string]int // the strings that name encodings
	keys      map[string]int // the strings that are keys
}

// value writes a Ruby value.
func (e *encoder) value(v any) {
	switch v := v.(type) {
	case nil:
		e.out = append(e.out, '0')
	case bool:
		e.out = append(e.out, map[bool]byte{true: 'T', false: 'F'}[v])
	case int64:
		e.integer(v)
	case *big.Int:
		e.bignum(v)
	case float64:
		e.float(v)
	case string:
		e.objects++
		e.out = append(e.out, 'I')
		e.bytes('"', v)
		e.long(1)
		e.symbol("E")
		e.out = append(e.out, 'T')
	case []byte:
		e.objects++
		e.bytes('"', string(v))
	case String:
		e.encoded(v)
	case rubycompat.Symbol:
		e.symbol(v)
	case []any:
		e.objects++
		e.out = append(e.out, '[')
		e.long(len(v))
		for _, item := range v {
			e.value(item)
		}
	case rubycompat.Hash:
		e.hash('{', v)
	case rubycompat.DefaultHash:
		e.hash('}', v.Hash)
		e.value(v.Default)
	default:
		panic(fmt.Sprintf("rubymarshal: reflection left a %T", v))
	}
}

func (e *encoder) hash(kind byte, h rubycompat.Hash) {
	e.objects++
	e.out = append(e.out, kind)
	e.long(len(h))
	for _, p := range h {
		e.key(p.Key)
		e.value(p.Value)
	}
}

// key writes a key of a hash. Ruby keeps one object for equal string keys, so
// the second is a link.
func (e *encoder) key(v any) {
	text, ok := v.(string)
	if object, seen := e.keys[text]; ok && seen {
		e.out = append(e.out, '@')
		e.long(object)
		return
	}
	if ok {
		e.keys[text] = e.objects
	}
	e.value(v)
}

// long writes a count or a small integer: one byte from -123 to 122, otherwise
// the number of bytes (negative for a negative number) and the bytes, low byte
// first.
func (e *encoder) long(n int) {
	switch {
	case n == 0:
		e.out = append(e.out, 0)
	case 0 < n && n < 123:
		e.out = append(e.out, byte(n+5))
	case -124 < n && n < 0:
		e.out = append(e.out, byte(n-5))
	default:
		at := len(e.out)
		e.out = append(e.out, 0)
		for rest := n; rest != 0 && rest != -1; rest >>= 8 {
			e.out = append(e.out, byte(rest))
		}
		size := len(e.out) - at - 1
		if n < 0 {
			size = -size
		}
		e.out[at] = byte(size)
	}
}

func (e *encoder) bytes(kind byte, text string) {
	e.out = append(e.out, kind)
	e.long(len(text))
	e.out = append(e.out, text...)
}

// integer writes integers of 31 bits directly, larger ones as bignums.
func (e *encoder) integer(n int64) {
	if -1<<30 <= n && n < 1<<30 {
		e.out = append(e.out, 'i')
		e.long(int(n))
		return
	}
	e.bignum(big.NewInt(n))
}

func (e *encoder) bignum(n *big.Int) {
	e.objects++
	sign := byte('+')
	if n.Sign() < 0 {
		sign = '-'
	}
	magnitude := n.Bytes() // high byte first
	words := (len(magnitude) + 1) / 2
	e.out = append(e.out, 'l', sign)
	e.long(words)
	for i := range 2 * words { // 16-bit words, low byte first
		if at := len(magnitude) - 1 - i; at >= 0 {
			e.out = append(e.out, magnitude[at])
		} else {
			e.out = append(e.out, 0)
		}
	}
}

func (e *encoder) float(f float64) {
	// Two equal floats are one object in Ruby, unless it must allocate them.
	bits := math.Float64bits(f)
	if object, seen := e.floats[bits]; seen && immediate(bits) {
		e.out = append(e.out, '@')
		e.long(object)
		return
	}
	e.floats[bits] = e.objects
	e.objects++
	e.bytes('f', string(appendFloat(nil, f)))
}

// immediate reports whether a 64-bit Ruby stores a float with these bits in a
// reference: zero, and exponents that fit into three bits.
func immediate(bits uint64) bool {
	top := bits >> 60 & 7
	return bits == 0 || bits != 0x3000000000000000 && (top == 3 || top == 4)
}

// appendFloat appends the shortest digits that read back the same, with an
// exponent if the point is outside them.
func appendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "nan"...)
	case math.IsInf(f, 1):
		return append(dst, "inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf"...)
	case f == 0 && math.Signbit(f):
		return append(dst, "-0"...)
	case f == 0:
		return append(dst, '0')
	}
	mantissa, exp, _ := strings.Cut(strconv.FormatFloat(math.Abs(f), 'e', -1, 64), "e") // d.ddde±xx
	digits := strings.Replace(mantissa, ".", "", 1)
	exponent, _ := strconv.Atoi(exp)
	if f < 0 {
		dst = append(dst, '-')
	}
	point := exponent + 1 // digits before the decimal point
	switch {
	case point < -3 || point > len(digits):
		dst = append(dst, digits[0])
		if len(digits) > 1 {
			dst = append(append(dst, '.'), digits[1:]...)
		}
		return strconv.AppendInt(append(dst, 'e'), int64(exponent), 10)
	case point > 0:
		dst = append(dst, digits[:point]...)
		if len(digits) > point {
			dst = append(append(dst, '.'), digits[point:]...)
		}
		return dst
	}
	dst = append(append(dst, "0."...), strings.Repeat("0", -point)...)
	return append(dst, digits...)
}

// symbol writes a symbol the first time and a link to it afterwards.
func (e *encoder) symbol(s rubycompat.Symbol) {
	if n, seen := e.symbols[s]; seen {
		e.out = append(e.out, ';')
		e.long(n)
		return
	}
	ascii := true
	for i := range len(s) {
		ascii = ascii && s[i] < 0x80
	}
	if !ascii {
		e.out = append(e.out, 'I')
	}
	e.symbols[s] = len(e.symbols)
	e.bytes(':', string(s))
	if !ascii {
		e.long(1)
		e.symbol("E")
		e.out = append(e.out, 'T')
	}
}

func (e *encoder) encoded(s String) {
	e.objects++
	e.out = append(e.out, 'I')
	e.bytes('"', string(s.Bytes))
	e.long(1)
	if s.Encoding == usASCII {
		e.symbol("E")
		e.out = append(e.out, 'F')
		return
	}
	e.symbol("encoding")
	if object, seen := e.encodings[s.Encoding]; seen {
		e.out = append(e.out, '@')
		e.long(object)
		return
	}
	e.encodings[s.Encoding] = e.objects
	e.objects++
	e.bytes('"', s.Encoding)
}
