package activerecord

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

// Type is the type of an attribute: it converts values to the text that is encrypted,
// and back. The zero Type is that of text.
//
//	type      Go value           text
//	string    string             the bytes
//	binary    []byte             the bytes, in the encoding ASCII-8BIT
//	boolean   bool               true or false; also read are t, f, 1, 0, on and off
//	integer   int64              decimal digits
//	float     float64            as Ruby writes it: 1.5, 1.0e+20, Infinity
//	decimal   [lockbox.Decimal]  1.5
//	date      time.Time          2020-01-02: the day that the value shows, read as midnight UTC
//	datetime  time.Time          2020-01-02 03:04:05 UTC
//	time      time.Time          2000-01-01 03:04:05 UTC
//	json      any                JSON as Rails up to 8.0 writes it; 8.1 does not escape < > &
//	hash      any hash           YAML, of serialize
//	array     any list           YAML, of serialize
//
// A null result means that the column is NULL: nil in every type, an empty hash or list in
// hash and array, and text that Rails reads as nil, such as the empty text of a number.
// Text of a number that Rails reads as 0 is [kmsencrypted.ErrMalformed].
//
// Rails loses fractions of a second. Append returns [kmsencrypted.ErrLossy] for a
// datetime or time that has one: truncate it to a second.
type Type struct{ *valueType }

type valueType struct {
	name, encoding string
	append         func(dst []byte, v any) (text []byte, null bool, err error)
	parse          func(text []byte, into any) (null bool, err error)
}

// ParseType returns the type of a name in the table above; "" means string. The types
// hash and array need yaml, which may be nil for all others: see lockbox/rubyyaml.
// ParseType returns [kmsencrypted.ErrConfig] for an unknown name or a missing yaml.
func ParseType(name string, yaml lockbox.YAML) (Type, error) {
	t, ok := types[name]
	if !ok {
		return Type{}, configError("unknown type %q", name)
	}
	if t.append != nil && t.parse != nil {
		return Type{&t}, nil
	}
	// What Rails casts a text to does not depend on where it was encrypted.
	same, err := lockbox.ParseType(t.name, yaml)
	if err != nil {
		return Type{}, err
	}
	if t.append == nil {
		t.append = same.Append
	}
	t.parse = same.Parse
	return Type{&t}, nil
}

var types = map[string]valueType{
	"":         {name: "string", encoding: EncodingUTF8},
	"string":   {name: "string", encoding: EncodingUTF8},
	"binary":   {name: "binary", encoding: EncodingBinary},
	"boolean":  typeOf("boolean", appendBoolean, parseBoolean),
	"integer":  typeOf("integer", appendScalar[int64], parseInteger),
	"float":    typeOf("float", appendScalar[float64], parseFloat),
	"decimal":  {name: "decimal", encoding: EncodingASCII},
	"date":     {name: "date", encoding: EncodingASCII},
	"datetime": {name: "datetime", encoding: EncodingASCII, append: appendTime("datetime", time.DateOnly, time.TimeOnly+" UTC")},
	"time":     {name: "time", encoding: EncodingASCII, append: appendTime("time", "", time.TimeOnly+" UTC")},
	"json":     {name: "json", encoding: EncodingUTF8},
	"hash":     {name: "hash", encoding: EncodingUTF8},
	"array":    {name: "array", encoding: EncodingUTF8},
}

// typeOf returns a type made of functions for one Go type.
func typeOf[T any](name string, appendTo func([]byte, T) []byte, parse func(string) (v T, null, ok bool)) valueType {
	return valueType{
		name:     name,
		encoding: EncodingASCII,
		append: func(dst []byte, v any) ([]byte, bool, error) {
			value, ok := v.(T)
			if !ok {
				return dst, false, configError("type %s takes a %T, not a %T", name, value, v)
			}
			return appendTo(dst, value), false, nil
		},
		parse: func(text []byte, into any) (null bool, err error) {
			target, ok := into.(*T)
			if !ok {
				return false, configError("type %s is read into a %T, not a %T", name, target, into)
			}
			v, null, ok := parse(string(text))
			if !ok {
				return false, malformed("the text of a column of type %s", name)
			}
			*target = v
			return null, nil
		},
	}
}

func (t Type) known() *valueType {
	if t.valueType == nil {
		known, _ := ParseType("string", nil)
		return known.valueType
	}
	return t.valueType
}

func (t Type) String() string { return t.known().name }

// Encoding returns the encoding of the text, for [NewText].
func (t Type) Encoding() string { return t.known().encoding }

// Append appends the text of a value to dst. null means that the column is NULL. Append
// returns [kmsencrypted.ErrConfig] for a value of another Go type than in the table.
// Errors do not contain the value.
func (t Type) Append(dst []byte, value any) (text []byte, null bool, err error) {
	if value == nil {
		return dst, true, nil
	}
	return t.known().append(dst, value)
}

// Parse parses text into the value that into points to, and sets that to its zero value
// for null. It returns [kmsencrypted.ErrMalformed] for text that is not of the type, and
// [kmsencrypted.ErrConfig] for a pointer to another Go type than in the table. Errors do
// not contain the text.
func (t Type) Parse(text []byte, into any) (null bool, err error) { return t.known().parse(text, into) }

func appendScalar[T any](dst []byte, v T) []byte {
	dst, _ = rubycompat.AppendScalar(dst, v)
	return dst
}

func appendBoolean(dst []byte, v bool) []byte { return strconv.AppendBool(dst, v) }

// parseBoolean reads what Rails' boolean type does: every text that it does not know as
// false is true.
func parseBoolean(text string) (v, null, ok bool) {
	switch text {
	case "":
		return false, true, true
	case "0", "f", "F", "false", "FALSE", "off", "OFF":
		return false, false, true
	}
	return true, false, true
}

func parseInteger(text string) (v int64, null, ok bool) {
	if text == "" {
		return 0, true, true
	}
	v, err := strconv.ParseInt(text, 10, 64)
	return v, false, err == nil
}

var floatText = regexp.MustCompile(`^(-?\d+(\.\d+)?([eE][-+]?\d+)?|-?Infinity|NaN)$`)

func parseFloat(text string) (v float64, null, ok bool) {
	if strings.TrimSpace(text) == "" {
		return 0, true, true
	}
	v, err := strconv.ParseFloat(text, 64)
	return v, false, err == nil && floatText.MatchString(text)
}

// appendTime writes a day and a clock, in UTC. A time of day has the day 2000-01-01.
func appendTime(name, day, clock string) func(dst []byte, v any) ([]byte, bool, error) {
	return func(dst []byte, v any) ([]byte, bool, error) {
		t, ok := v.(time.Time)
		if !ok {
			return dst, false, configError("type %s takes a time.Time, not a %T", name, v)
		}
		switch t = t.UTC(); {
		case t.Nanosecond() != 0:
			return dst, false, fmt.Errorf("activerecord: %w: Rails keeps no fraction of a second", kmsencrypted.ErrLossy)
		case day == "":
			dst = append(dst, "2000-01-01"...)
		case t.Year() < 0 || t.Year() > 9999:
			return dst, false, fmt.Errorf("activerecord: %w: a year outside 0 to 9999", kmsencrypted.ErrTooLarge)
		default:
			dst = t.AppendFormat(dst, day)
		}
		return t.AppendFormat(append(dst, ' '), clock), false, nil
	}
}
