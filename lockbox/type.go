package lockbox

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// Type is the type: option of an attribute. It converts values to plaintext and
// back. The zero value is the type of an attribute without this option.
//
//	type      Go value              plaintext
//	(none)    string, []byte, bool, text: true and false are t and f, floats as Ruby writes
//	          numbers, Decimal      them; only strings and []byte can be read back
//	string    string                the bytes
//	binary    []byte                the bytes
//	boolean   bool                  t or f; everything but t reads as false
//	date      time.Time             2020-01-02: the day that the value shows, read as midnight UTC
//	datetime  time.Time             2020-01-02T03:04:05.123456789Z; read to the microsecond, as in Rails
//	time      time.Time             03:04:05.000000000 in UTC, read as of 2000-01-01
//	integer   int64                 8 bytes, big endian
//	float     float64               8 bytes IEEE 754, big endian
//	decimal   [Decimal]             1.5
//	json      any                   JSON as Rails writes it
//	inet      netip.Prefix          18 bytes: family 0 or 1, prefix length, 16 of the address; host bits are cleared
//	hash      any hash              YAML
//	array     any list              YAML
//	store     any hash              JSON (ActiveRecord's store with has_encrypted)
//
// A null result means that the value is stored as NULL: nil in every type, and an
// empty hash or list in hash, array and store. Texts that Rails reads as nil, such
// as an invalid date or an integer of less than eight bytes, are null as well.
type Type struct{ *codec }

// YAML reads and writes the YAML of the types hash and array. Package
// lockbox/rubyyaml implements it, so that this package need not import a YAML
// library.
type YAML interface {
	// Marshal returns v as YAML that Ruby reads as the same value.
	Marshal(v any) ([]byte, error)
	// Unmarshal reads YAML as Ruby does. Into a *any it stores a [Hash] for a mapping
	// and a []any for a list.
	Unmarshal(data []byte, into any) error
}

// The Ruby values that Go has no type for, as package rubyyaml and the type json
// use them.
type (
	// Hash is a Ruby hash: entries in order, keys of any kind.
	Hash = rubycompat.Hash
	// Pair is one entry of a [Hash].
	Pair = rubycompat.Pair
	// Symbol is a Ruby symbol, without its colon.
	Symbol = rubycompat.Symbol
)

// codec implements a type. Its callers have checked that values and targets are not
// nil and have the right Go type.
type codec struct {
	name   string
	append func(dst []byte, v any) (plaintext []byte, null bool, err error)
	parse  func(plaintext []byte, into any) (null bool, err error)
}

// ParseType returns the type of a name in the table above; "" is the type without a
// name. The types hash and array need yaml, which may be nil for all others.
// ParseType returns [kmsencrypted.ErrConfig] for an unknown name or a missing yaml.
func ParseType(name string, yaml YAML) (Type, error) {
	if c, ok := codecs[name]; ok {
		return Type{c}, nil
	}
	c, ok := yamlCodecs[name]
	if !ok {
		return Type{}, configError("unknown type %q", name)
	}
	if yaml == nil {
		return Type{}, configError("type %s needs YAML: import lockbox/rubyyaml", name)
	}
	return Type{c(name, yaml)}, nil
}

func (t Type) String() string {
	if t.codec == nil {
		return ""
	}
	return t.codec.name
}

// Append appends the plaintext of a value to dst. null means that the value is
// stored as NULL. Append returns [kmsencrypted.ErrConfig] for a value of another Go
// type than in the table, or without a form in Ruby. The error does not contain the
// value.
func (t Type) Append(dst []byte, value any) (plaintext []byte, null bool, err error) {
	if value == nil {
		return dst, true, nil
	}
	plaintext, null, err = t.known().append(dst, value)
	if err != nil || null {
		return dst, null, err
	}
	return plaintext, false, nil
}

// Parse parses plaintext into the value that into points to, and sets that to its
// zero value for null. It copies binary and untyped plaintexts. It returns
// [kmsencrypted.ErrMalformed] for plaintext that Ruby refuses, and
// [kmsencrypted.ErrConfig] for a pointer to another Go type than in the table.
// Errors do not contain the plaintext.
func (t Type) Parse(plaintext []byte, into any) (null bool, err error) {
	return t.known().parse(plaintext, into)
}

func (t Type) known() *codec {
	if t.codec == nil {
		return codecs[""]
	}
	return t.codec
}

var codecs = map[string]*codec{
	"":         {"", appendUntyped, parseUntyped},
	"string":   codecOf("string", appendString, func(p []byte) (string, bool, error) { return string(p), false, nil }),
	"binary":   codecOf("binary", appendBytes, func(p []byte) ([]byte, bool, error) { return append([]byte{}, p...), false, nil }),
	"boolean":  codecOf("boolean", appendBoolean, func(p []byte) (bool, bool, error) { return string(p) == "t", false, nil }),
	"date":     codecOf("date", appendDate, parseDate),
	"datetime": codecOf("datetime", appendDatetime, parseDatetime),
	"time":     codecOf("time", appendTime, parseTime),
	"integer":  codecOf("integer", appendInteger, parseInteger),
	"float":    codecOf("float", appendFloat, parseFloat),
	"decimal":  codecOf("decimal", appendDecimal, parseDecimal),
	"inet":     codecOf("inet", appendInet, parseInet),
	"json":     {"json", appendJSON, parseJSON},
	"store":    {"store", appendStore, parseStore},
}

var yamlCodecs = map[string]func(name string, yaml YAML) *codec{
	"hash":  yamlCodec[Hash],
	"array": yamlCodec[[]any],
}

// codecOf returns a codec made of functions for one Go type.
func codecOf[T any](name string, appendTo func([]byte, T) ([]byte, error), parse func([]byte) (T, bool, error)) *codec {
	return &codec{
		name: name,
		append: func(dst []byte, v any) ([]byte, bool, error) {
			value, ok := v.(T)
			if !ok {
				return dst, false, configError("type %s takes a %T, not a %T", name, value, v)
			}
			dst, err := appendTo(dst, value)
			return dst, false, err
		},
		parse: func(plaintext []byte, into any) (null bool, err error) {
			target, ok := into.(*T)
			if !ok {
				return false, configError("type %s is read into a %T, not a %T", name, target, into)
			}
			*target, null, err = parse(plaintext)
			return null, err
		},
	}
}

// malformed returns [kmsencrypted.ErrMalformed] for a plaintext that is not of its
// type.
func malformed(format string, args ...any) error {
	return fmt.Errorf("lockbox: plaintext: %w: %w", kmsencrypted.ErrMalformed, fmt.Errorf(format, args...))
}

func appendUntyped(dst []byte, v any) ([]byte, bool, error) {
	if b, ok := v.(bool); ok {
		dst, err := appendBoolean(dst, b)
		return dst, false, err
	}
	dst, ok := rubycompat.AppendScalar(dst, v)
	if !ok {
		return dst, false, configError("an attribute without type takes text, a boolean or a number, not a %T", v)
	}
	return dst, false, nil
}

func parseUntyped(plaintext []byte, into any) (bool, error) {
	switch target := into.(type) {
	case *string:
		*target = string(plaintext)
	case *[]byte:
		*target = append([]byte{}, plaintext...)
	default:
		return false, configError("an attribute without type is read into a *string or *[]byte, not a %T", into)
	}
	return false, nil
}

func appendString(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil }
func appendBytes(dst, v []byte) ([]byte, error)         { return append(dst, v...), nil }

func appendBoolean(dst []byte, v bool) ([]byte, error) {
	if v {
		return append(dst, 't'), nil
	}
	return append(dst, 'f'), nil
}

func appendInteger(dst []byte, v int64) ([]byte, error) {
	return binary.BigEndian.AppendUint64(dst, uint64(v)), nil
}

// parseInteger returns null for fewer than eight bytes and ignores more, like Ruby's
// unpack.
func parseInteger(plaintext []byte) (int64, bool, error) {
	if len(plaintext) < 8 {
		return 0, true, nil
	}
	return int64(binary.BigEndian.Uint64(plaintext)), false, nil
}

// rubyNaN is the bit pattern of the only NaN that Ruby writes.
const rubyNaN = 0x7ff8000000000000

func appendFloat(dst []byte, v float64) ([]byte, error) {
	bits := math.Float64bits(v)
	if math.IsNaN(v) {
		bits = rubyNaN
	}
	return binary.BigEndian.AppendUint64(dst, bits), nil
}

func parseFloat(plaintext []byte) (float64, bool, error) {
	if len(plaintext) < 8 {
		return 0, true, nil
	}
	return math.Float64frombits(binary.BigEndian.Uint64(plaintext)), false, nil
}

// inetSize is the size of an inet plaintext: family || prefix || 16 of the address.
const inetSize = 18

func appendInet(dst []byte, v netip.Prefix) ([]byte, error) {
	if !v.IsValid() {
		return dst, configError("type inet: the zero netip.Prefix")
	}
	v = v.Masked()
	family := byte(0)
	if v.Addr().Is6() {
		family = 1
	}
	start := len(dst)
	dst = append(dst, family, byte(v.Bits()))
	dst = append(dst, v.Addr().AsSlice()...)
	return append(dst, make([]byte, inetSize-(len(dst)-start))...), nil
}

// parseInet accepts an IPv4 address without the trailing zeros, and ignores bytes
// after the 18.
func parseInet(plaintext []byte) (netip.Prefix, bool, error) {
	if len(plaintext) < 2 {
		return netip.Prefix{}, false, malformed("inet of %d bytes", len(plaintext))
	}
	size := 16
	if family := plaintext[0]; family == 0 {
		size = 4
	}
	bits, address := int(plaintext[1]), plaintext[2:]
	if len(address) < size {
		return netip.Prefix{}, false, malformed("inet of %d bytes", len(plaintext))
	}
	addr, _ := netip.AddrFromSlice(address[:size])
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}, false, malformed("inet with an impossible prefix length")
	}
	return prefix, false, nil
}
