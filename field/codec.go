package field

import (
	"encoding"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

// codec converts the Go value of a field to plaintext bytes and back.
type codec struct {
	// name is the value type that the ciphertext is bound to. It is a fixed name, not
	// Go's, so that int32 can become int64 and a type can be renamed.
	name string
	// encode appends v to dst. isNull means that the column becomes NULL.
	encode func(dst []byte, v reflect.Value) (out []byte, isNull bool, err error)
	// decode sets v, which is settable and zero. errNull means that the plaintext
	// represents nil.
	decode func(v reflect.Value, plaintext []byte) error
	// isText means that a string is its own plaintext. Most columns hold a string, and
	// reflection would cost a tenth of sealing it.
	isText bool
	// same reports whether out, the decoded value, equals in. It is nil for this
	// package's own codecs, which lose nothing.
	same func(in, out reflect.Value) bool
}

// write encodes a value to be stored. If other code makes the plaintext, write
// decodes it again and compares. It returns [kmsencrypted.ErrLossy] for a value
// that would be read as another one, or not at all.
func (c *codec) write(dst []byte, v reflect.Value) (out []byte, isNull bool, err error) {
	out, isNull, err = c.encode(dst, v)
	if err != nil || isNull || c.same == nil {
		return out, isNull, err
	}
	if back, err := c.read(v.Type(), out[len(dst):]); err != nil || !c.same(v, back) {
		return nil, false, fmt.Errorf("%w: a %v does not encode all of it", kmsencrypted.ErrLossy, v.Type())
	}
	return out, false, nil
}

// read decodes plaintext to a new value of type t, zero if it represents nil.
func (c *codec) read(t reflect.Type, plaintext []byte) (reflect.Value, error) {
	v := reflect.New(t).Elem()
	err := c.decode(v, plaintext)
	if err == errNull {
		err = nil
	}
	return v, err
}

// Type describes how columns store a Go type that this package does not know, for
// [Config.Types].
type Type struct {
	goType reflect.Type
	codec  codec
}

// TypeOf describes T. The name becomes part of what a ciphertext is bound to: never
// change it. encode returns the plaintext bytes of a value, decode reads them back.
// Both must be safe for concurrent use and must not put the value into an error.
//
// When a value is sealed, its bytes are decoded and compared with it: see
// [Type.Unchecked].
func TypeOf[T any](name string, encode func(T) ([]byte, error), decode func([]byte) (T, error)) Type {
	return Type{
		goType: reflect.TypeFor[T](),
		codec: codec{
			name: "custom:" + name,
			same: sameValue,
			encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
				data, err := encode(*v.Addr().Interface().(*T))
				return append(dst, data...), false, err
			},
			decode: func(v reflect.Value, plaintext []byte) error {
				value, err := decode(append([]byte(nil), plaintext...))
				if err != nil {
					return fmt.Errorf("%w: %w", errNotOfType, err)
				}
				*v.Addr().Interface().(*T) = value
				return nil
			},
		},
	}
}

// Unchecked disables a check of Seal: for every type that this package does not
// encode itself, Seal decodes the bytes and compares the result with the value,
// with the type's Equal or Cmp method or else field by field. Use Unchecked for a
// type that loses something on purpose, such as a cache in it, or that is too large
// to decode at every sealing. What encode and decode lose is then lost silently.
func (t Type) Unchecked() Type {
	t.codec.same = nil
	return t
}

// errNotOfType replaces a decoding error, which may quote the value.
var errNotOfType = kmsencrypted.ErrType

// nativeOption reports whether a type= option concerns the native form.
func nativeOption(option string) bool {
	_, isTime := timeLayouts[option]
	return isTime || option == "json" || isYAML(option)
}

func isYAML(option string) bool { return option == "hash" || option == "array" }

// isDynamic reports whether only JSON decides which types the values of t have.
// encoding/json would read every number in it as a float.
func isDynamic(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[any](), reflect.TypeFor[map[string]any](), reflect.TypeFor[[]any](), reflect.TypeFor[lockbox.Hash]():
		return true
	}
	return false
}

// nativeCodec returns the codec for a Go type and the tag's type= option
// (spec/native.md section 5).
func nativeCodec(t reflect.Type, option string, config Config) (codec, error) {
	c, err := chooseNative(t, option, config)
	return nullCodec(t, c), err
}

func chooseNative(t reflect.Type, option string, config Config) (codec, error) {
	for _, c := range config.Types {
		if c.goType == t {
			return c.codec, nil
		}
	}
	if t.Kind() == reflect.Pointer {
		inner, err := nativeCodec(t.Elem(), option, config)
		return pointerCodec(inner), err
	}
	if field, ok := sqlNull(t); ok {
		inner, err := nativeCodec(t.Field(field).Type, option, config)
		return sqlNullCodec(inner, field), err
	}
	switch {
	case isYAML(option):
		// YAML can represent what JSON cannot, such as Ruby's symbols.
		return rubyCodec("yaml", t, option, config)
	case isDynamic(t) && (option == "" || option == "json"):
		return rubyCodec("json", t, "json", config)
	case option == "json":
		return jsonCodec, jsonFault(t)
	}
	if t == reflect.TypeFor[time.Time]() {
		layout, ok := timeLayouts[option]
		if !ok {
			return codec{}, fmt.Errorf("%w: type=%s for a time.Time", kmsencrypted.ErrConfig, option)
		}
		return timeCodec(layout), nil
	}
	if option != "" {
		return codec{}, fmt.Errorf("%w: type=%s for a %v", kmsencrypted.ErrConfig, option, t)
	}
	if pointer := reflect.PointerTo(t); pointer.Implements(reflect.TypeFor[encoding.TextMarshaler]()) && pointer.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return textCodec(t), nil
	}
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
		return bytesCodec, nil
	}
	if c, ok := kindCodecs[t.Kind()]; ok {
		return c, nil
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Array, reflect.Map, reflect.Interface:
		return jsonCodec, jsonFault(t)
	}
	return codec{}, fmt.Errorf("%w: a %v cannot be kept in a column", kmsencrypted.ErrConfig, t)
}

// rubyCodec stores values like Lockbox's type, under a name of the native form:
// whole numbers stay integers, and floats stay floats.
func rubyCodec(name string, t reflect.Type, lockboxType string, config Config) (codec, error) {
	c, err := lockboxCodec(t, lockboxType, config)
	decode := c.decode
	c.name = name
	c.decode = func(v reflect.Value, plaintext []byte) error {
		if decode(v, plaintext) != nil { // nil values are NULL, so errNull is an error here
			return errNotOfType
		}
		return nil
	}
	return c, err
}

var (
	stringCodec = codec{name: "string", isText: true,
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) { return append(dst, v.String()...), false, nil },
		decode: func(v reflect.Value, plaintext []byte) error { v.SetString(string(plaintext)); return nil },
	}
	// A nil slice is NULL, as in database/sql.
	bytesCodec = codec{name: "bytes",
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
			return append(dst, v.Bytes()...), v.IsNil(), nil
		},
		decode: func(v reflect.Value, plaintext []byte) error {
			v.SetBytes(append([]byte{}, plaintext...))
			return nil
		},
	}
	boolCodec = codec{name: "bool",
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
			if v.Bool() {
				return append(dst, 1), false, nil
			}
			return append(dst, 0), false, nil
		},
		decode: func(v reflect.Value, plaintext []byte) error {
			if len(plaintext) != 1 || plaintext[0] > 1 {
				return errNotOfType
			}
			v.SetBool(plaintext[0] == 1)
			return nil
		},
	}
	// Integers always take eight bytes, so that the length reveals nothing and the Go
	// type may grow.
	intCodec = codec{name: "int",
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
			return binary.BigEndian.AppendUint64(dst, uint64(v.Int())), false, nil
		},
		decode: func(v reflect.Value, plaintext []byte) error {
			if len(plaintext) != 8 || v.OverflowInt(int64(binary.BigEndian.Uint64(plaintext))) {
				return errNotOfType
			}
			v.SetInt(int64(binary.BigEndian.Uint64(plaintext)))
			return nil
		},
	}
	uintCodec = codec{name: "uint",
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
			return binary.BigEndian.AppendUint64(dst, v.Uint()), false, nil
		},
		decode: func(v reflect.Value, plaintext []byte) error {
			if len(plaintext) != 8 || v.OverflowUint(binary.BigEndian.Uint64(plaintext)) {
				return errNotOfType
			}
			v.SetUint(binary.BigEndian.Uint64(plaintext))
			return nil
		},
	}
	floatCodec = codec{name: "float",
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
			return binary.BigEndian.AppendUint64(dst, math.Float64bits(v.Float())), false, nil
		},
		decode: func(v reflect.Value, plaintext []byte) error {
			if len(plaintext) != 8 {
				return errNotOfType
			}
			f := math.Float64frombits(binary.BigEndian.Uint64(plaintext))
			if v.OverflowFloat(f) {
				return errNotOfType
			}
			v.SetFloat(f)
			return nil
		},
	}
	// Nil maps, slices and interfaces are NULL.
	jsonCodec = codec{name: "json", same: sameValue,
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
			switch v.Kind() {
			case reflect.Map, reflect.Slice, reflect.Interface:
				if v.IsNil() {
					return dst, true, nil
				}
			}
			data, err := json.Marshal(v.Addr().Interface()) // through the pointer, whose methods count when it is read too
			if err != nil {
				// The error of a marshaler may quote the value.
				return nil, false, fmt.Errorf("%w: a %v has no JSON", kmsencrypted.ErrLossy, v.Type())
			}
			return append(dst, data...), false, nil
		},
		decode: func(v reflect.Value, plaintext []byte) error {
			if err := json.Unmarshal(plaintext, v.Addr().Interface()); err != nil {
				return errNotOfType
			}
			return nil
		},
	}
)

var kindCodecs = map[reflect.Kind]codec{
	reflect.String: stringCodec, reflect.Bool: boolCodec,
	reflect.Int: intCodec, reflect.Int8: intCodec, reflect.Int16: intCodec, reflect.Int32: intCodec, reflect.Int64: intCodec,
	reflect.Uint: uintCodec, reflect.Uint8: uintCodec, reflect.Uint16: uintCodec, reflect.Uint32: uintCodec, reflect.Uint64: uintCodec,
	reflect.Float32: floatCodec, reflect.Float64: floatCodec,
}

// timeLayouts are the texts of a time.Time by type= option, always in UTC except
// for a date, which is the day that the value shows.
var timeLayouts = map[string]timeLayout{
	"":         {"datetime", "2006-01-02T15:04:05.000000000Z", true},
	"datetime": {"datetime", "2006-01-02T15:04:05.000000000Z", true},
	"date":     {"date", time.DateOnly, false},
	"time":     {"time", "15:04:05.000000000", true},
}

type timeLayout struct {
	name, layout string
	utc          bool
}

func timeCodec(l timeLayout) codec {
	return codec{name: l.name,
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
			t := *v.Addr().Interface().(*time.Time)
			if l.utc {
				t = t.UTC()
			}
			if year := t.Year(); year < 0 || year > 9999 {
				return nil, false, fmt.Errorf("%w: year outside 0 to 9999", kmsencrypted.ErrTooLarge)
			}
			return t.AppendFormat(dst, l.layout), false, nil
		},
		decode: func(v reflect.Value, plaintext []byte) error {
			t, err := time.Parse(l.layout, string(plaintext))
			if err != nil {
				return errNotOfType
			}
			*v.Addr().Interface().(*time.Time) = t
			return nil
		},
	}
}

// textCodec is for types with text methods. Addresses have names of their own so
// that they cannot be mistaken for other text.
func textCodec(t reflect.Type) codec {
	name := "text"
	switch t {
	case reflect.TypeFor[netip.Addr]():
		name = "addr"
	case reflect.TypeFor[netip.Prefix]():
		name = "prefix"
	}
	return codec{name: name, same: sameValue,
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
			text, err := v.Addr().Interface().(encoding.TextMarshaler).MarshalText()
			if err != nil {
				return nil, false, fmt.Errorf("%w: a %v has no text", kmsencrypted.ErrLossy, t)
			}
			return append(dst, text...), false, nil
		},
		decode: func(v reflect.Value, plaintext []byte) error {
			if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(append([]byte{}, plaintext...)); err != nil {
				return errNotOfType
			}
			return nil
		},
	}
}
