package field

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

// lockboxColumn is a column in Lockbox's form.
type lockboxColumn struct {
	values  codec
	options lockbox.Options
	given   *lockbox.Box // of Config.LockboxBoxes
}

func newLockboxColumn(s *schema, f *fieldSpec, t reflect.Type) (rubyColumn, error) {
	values, err := lockboxCodec(t, f.valType, s.config)
	if err != nil {
		return nil, err
	}
	c := &lockboxColumn{values: values, options: lockbox.Options{Algorithm: lockbox.Algorithm(f.algorithm), Padding: f.padding}}
	if given, ok := s.config.LockboxBoxes[f.column]; ok {
		if _, err := given.Open(nil, nil, nil); errors.Is(err, kmsencrypted.ErrConfig) {
			return nil, err // a nil or zero Box
		}
		if f.algorithm != "" || f.padding != 0 || f.keyTable != "" || f.keyAttr != "" {
			return nil, fmt.Errorf("%w: its box in Config.LockboxBoxes has the algorithm, the padding and the key", kmsencrypted.ErrConfig)
		}
		c.given = given
		return c, nil
	}
	_, err = c.under(make([]byte, kmsencrypted.DataKeySize)) // checks the options
	return c, err
}

func (c *lockboxColumn) codec() *codec { return &c.values }

func (c *lockboxColumn) storesEmpty() bool {
	if c.given != nil {
		return lockbox.Column{Box: c.given}.StoresEmpty()
	}
	return c.options.Padding == 0
}

func (c *lockboxColumn) variant() string {
	return fmt.Sprintf("lockbox %s %d", c.options.Algorithm, c.options.Padding)
}

func (c *lockboxColumn) under(key []byte) (rubySealer, error) {
	box, err := lockbox.New(key, c.options)
	return lockboxSealer{box}, err
}

type lockboxSealer struct{ box *lockbox.Box }

func (l lockboxSealer) seal(plaintext, associated []byte, isBinary bool, buf *scratch) (columns, error) {
	sealed, err := lockbox.Column{Box: l.box, Binary: isBinary}.Seal(buf.sealed[:0], plaintext, associated)
	if err != nil {
		return columns{}, err
	}
	buf.sealed = sealed
	return columns{value: stored{text: string(sealed), binary: isBinary}}, nil
}

func (l lockboxSealer) open(c columns, associated []byte, isBinary bool, buf *scratch) ([]byte, error) {
	buf.text = append(buf.text[:0], c.value.text...)
	plaintext, err := lockbox.Column{Box: l.box, Binary: isBinary}.Open(buf.plain[:0], buf.text, associated)
	if err != nil {
		return nil, err
	}
	buf.plain = plaintext
	return plaintext, nil
}

// errNull means that the plaintext represents nil, as an integer of too few bytes
// does in Ruby.
var errNull = errors.New("null")

// lockboxCodec returns the codec of a Go type for Lockbox's type: option, or for
// the default of the Go type.
func lockboxCodec(t reflect.Type, option string, config Config) (codec, error) {
	c, err := chooseRuby(t, option, config, lockboxTypeOf, func(name string) (rubyType, error) {
		return lockbox.ParseType(name, config.YAML)
	})
	return nullCodec(t, c), err
}

// rubyType converts values to the plaintext of a Ruby type and back, as [lockbox.Type]
// does.
type rubyType interface {
	Append(dst []byte, value any) (plaintext []byte, null bool, err error)
	Parse(plaintext []byte, into any) (null bool, err error)
}

// chooseRuby returns the codec of a Go type for a type of Ruby: the one named by the
// option, or typeOf the Go type.
func chooseRuby(t reflect.Type, option string, config Config, typeOf func(reflect.Type) string, parseType func(string) (rubyType, error)) (codec, error) {
	choose := func(t reflect.Type) (codec, error) {
		c, err := chooseRuby(t, option, config, typeOf, parseType)
		return nullCodec(t, c), err
	}
	if t.Kind() == reflect.Pointer {
		inner, err := choose(t.Elem())
		return pointerCodec(inner), err
	}
	if field, ok := sqlNull(t); ok {
		inner, err := choose(t.Field(field).Type)
		return sqlNullCodec(inner, field), err
	}
	for _, custom := range config.Types {
		if custom.goType == t {
			return custom.codec, nil
		}
	}
	if option == "" {
		option = typeOf(t)
	}
	ruby, err := parseType(option)
	if err != nil {
		return codec{}, err
	}
	convert, err := converterOf(t, option)
	if err != nil {
		return codec{}, err
	}
	return codec{
		name: option, isText: option == "string" && t.Kind() == reflect.String,
		same: convert.same,
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
			value, err := convert.toRuby(v)
			if err != nil {
				return nil, false, err
			}
			out, isNull, err := ruby.Append(dst, value)
			return out, isNull, aboutValue(err)
		},
		decode: func(v reflect.Value, plaintext []byte) error {
			return convert.fromRuby(v, func(into any) error {
				isNull, err := ruby.Parse(plaintext, into)
				if err == nil && isNull {
					err = errNull
				}
				return err
			})
		},
	}, nil
}

// aboutValue returns [kmsencrypted.ErrLossy] for a value that a type of Lockbox
// refuses, such as text in JSON that is not UTF-8. Lockbox reports it like a
// mistake in the program.
func aboutValue(err error) error {
	if !errors.Is(err, kmsencrypted.ErrConfig) {
		return err
	}
	_, why, _ := strings.Cut(err.Error(), kmsencrypted.ErrConfig.Error()+": ")
	return fmt.Errorf("%w: %s", kmsencrypted.ErrLossy, why)
}

// lockboxTypeOf returns the type: option that suits a Go type.
func lockboxTypeOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Time]():
		return "datetime"
	case reflect.TypeFor[netip.Prefix](), reflect.TypeFor[netip.Addr]():
		return "inet"
	case reflect.TypeFor[lockbox.Decimal]():
		return "decimal"
	}
	switch k := t.Kind(); {
	case k == reflect.String:
		return "string"
	case k == reflect.Bool:
		return "boolean"
	case k >= reflect.Int && k <= reflect.Uint64:
		return "integer"
	case k == reflect.Float32, k == reflect.Float64:
		return "float"
	case k == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return "binary"
	}
	if isText(t) {
		return "string"
	}
	return "json"
}

func isText(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[encoding.TextMarshaler]()) && p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// converter converts the value of a field to the Go type of a Lockbox type, and
// back.
type converter struct {
	toRuby   func(v reflect.Value) (any, error)
	fromRuby func(v reflect.Value, parse func(into any) error) error
	same     func(in, out reflect.Value) bool // as in [codec]
}

// converterOf returns the converter of a Go type for a Lockbox type.
func converterOf(t reflect.Type, lockboxType string) (converter, error) {
	k := t.Kind()
	isBytes := k == reflect.Slice && t.Elem().Kind() == reflect.Uint8
	var c converter
	ok := false
	switch lockboxType {
	case "string":
		switch {
		case k == reflect.String:
			c, ok = through[string](), true
		case isText(t):
			c, ok = throughText(func(s string) (string, error) { return s, nil }), true
		case isBytes:
			c, ok = bytesAsString, true
		}
	case "binary":
		c, ok = bytesAsBinary, isBytes
	case "boolean":
		c, ok = through[bool](), k == reflect.Bool
	case "integer":
		c, ok = throughInteger, k >= reflect.Int && k <= reflect.Uint64
	case "float":
		c, ok = through[float64](), k == reflect.Float32 || k == reflect.Float64
	case "date", "datetime", "time":
		c, ok = through[time.Time](), t == reflect.TypeFor[time.Time]()
		c.same = sameRubyTime(lockboxType)
	case "decimal":
		switch {
		case k == reflect.String:
			c, ok = decimalAsString, true
		case isText(t):
			c, ok = throughText(lockbox.ParseDecimal), true
		}
	case "inet":
		switch t {
		case reflect.TypeFor[netip.Prefix]():
			c, ok = through[netip.Prefix](), true
			c.same = sameValue // without host bits, which Ruby clears
		case reflect.TypeFor[netip.Addr]():
			c, ok = throughAddr, true
		}
	default: // json, store, hash, array: any value
		return anything, jsonFault(t)
	}
	if !ok {
		return c, fmt.Errorf("%w: type=%s for a %v", kmsencrypted.ErrConfig, lockboxType, t)
	}
	return c, nil
}

// through converts between a type and the T of the same kind.
func through[T any]() converter {
	target := reflect.TypeFor[T]()
	return converter{
		toRuby: func(v reflect.Value) (any, error) { return v.Convert(target).Interface(), nil },
		fromRuby: func(v reflect.Value, parse func(any) error) error {
			var value T
			if err := parse(&value); err != nil {
				return err
			}
			converted := reflect.ValueOf(value)
			if v.CanFloat() && v.OverflowFloat(converted.Float()) {
				return errNotOfType
			}
			v.Set(converted.Convert(v.Type()))
			return nil
		},
	}
}

// sameRubyTime compares times as precisely as a type of Lockbox keeps them: to
// the day that is shown, or to the microsecond.
func sameRubyTime(lockboxType string) func(in, out reflect.Value) bool {
	shown := map[string]func(time.Time) time.Time{
		"date":     func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC) },
		"datetime": func(t time.Time) time.Time { return t.Truncate(time.Microsecond) },
		"time": func(t time.Time) time.Time {
			t = t.UTC()
			return time.Date(2000, 1, 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC).Truncate(time.Microsecond)
		},
	}[lockboxType]
	return func(in, out reflect.Value) bool {
		return shown(in.Interface().(time.Time)).Equal(out.Interface().(time.Time))
	}
}

// throughText converts through a type's own text.
func throughText[T ~string](parseText func(string) (T, error)) converter {
	return converter{
		same: sameValue,
		toRuby: func(v reflect.Value) (any, error) {
			text, err := v.Addr().Interface().(encoding.TextMarshaler).MarshalText()
			if err != nil {
				return nil, fmt.Errorf("%w: a %v has no text", kmsencrypted.ErrLossy, v.Type())
			}
			return parseText(string(text))
		},
		fromRuby: func(v reflect.Value, parse func(any) error) error {
			var value T
			if err := parse(&value); err != nil {
				return err
			}
			if v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(value)) != nil {
				return errNotOfType
			}
			return nil
		},
	}
}

var (
	bytesAsString = converter{
		toRuby: func(v reflect.Value) (any, error) { return string(v.Bytes()), nil },
		fromRuby: func(v reflect.Value, parse func(any) error) error {
			var value string
			err := parse(&value)
			v.SetBytes([]byte(value))
			return err
		},
	}
	// A slice of a named byte type does not convert to []byte.
	bytesAsBinary = converter{
		toRuby: func(v reflect.Value) (any, error) { return v.Bytes(), nil },
		fromRuby: func(v reflect.Value, parse func(any) error) error {
			var value []byte
			err := parse(&value)
			v.SetBytes(value)
			return err
		},
	}
	decimalAsString = converter{
		toRuby: func(v reflect.Value) (any, error) { return lockbox.ParseDecimal(v.String()) },
		fromRuby: func(v reflect.Value, parse func(any) error) error {
			var value lockbox.Decimal
			err := parse(&value)
			v.SetString(string(value))
			return err
		},
	}
	throughInteger = converter{
		toRuby: func(v reflect.Value) (any, error) {
			if v.CanInt() {
				return v.Int(), nil
			}
			if v.Uint() > math.MaxInt64 {
				return nil, fmt.Errorf("%w: Lockbox's integers have 64 bits with a sign", kmsencrypted.ErrTooLarge)
			}
			return int64(v.Uint()), nil
		},
		fromRuby: func(v reflect.Value, parse func(any) error) error {
			var value int64
			if err := parse(&value); err != nil {
				return err
			}
			switch {
			case v.CanInt() && !v.OverflowInt(value):
				v.SetInt(value)
			case v.CanUint() && value >= 0 && !v.OverflowUint(uint64(value)):
				v.SetUint(uint64(value))
			default:
				return errNotOfType
			}
			return nil
		},
	}
	throughAddr = converter{
		same: sameValue,
		toRuby: func(v reflect.Value) (any, error) {
			addr := v.Interface().(netip.Addr)
			return netip.PrefixFrom(addr, addr.BitLen()), nil
		},
		fromRuby: func(v reflect.Value, parse func(any) error) error {
			var prefix netip.Prefix
			if err := parse(&prefix); err != nil {
				return err
			}
			if !prefix.IsSingleIP() {
				return errNotOfType
			}
			v.Set(reflect.ValueOf(prefix.Addr()))
			return nil
		},
	}
	anything = converter{
		same:     sameValue,
		toRuby:   func(v reflect.Value) (any, error) { return v.Interface(), nil },
		fromRuby: func(v reflect.Value, parse func(any) error) error { return parse(v.Addr().Interface()) },
	}
)
