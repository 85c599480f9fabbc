package field

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

// A blind index hashes a text. Ruby takes to_s of the attribute, so a value whose Go type
// has another text, or several, is converted to Ruby's.

// indexText converts a value without pointers to what [blindindex.PlaintextOf] takes.
type indexText func(value any) (any, error)

// rubyTimes are to_s of Ruby's Date, and of its times in the zone UTC, by the type= option.
// A time of day is one of 1 January 2000.
var rubyTimes = map[string]func(time.Time) string{
	"date":     func(t time.Time) string { return t.Format(time.DateOnly) },
	"datetime": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"time":     func(t time.Time) string { return "2000-01-01 " + t.UTC().Format("15:04:05 UTC") },
}

// indexTextOf returns the conversion for a source of an index: nil if it needs none, and
// false if the type has no text that Ruby would have too.
func indexTextOf(t reflect.Type, option string) (indexText, bool) {
	if field, ok := sqlNull(t); ok {
		t = t.Field(field).Type
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch k := t.Kind(); {
	case t == timeType:
		format, ok := rubyTimes[option]
		return func(v any) (any, error) { return timeText(v, format) }, ok
	case t == reflect.TypeFor[netip.Prefix](), option == "inet":
		return nil, false
	case t == reflect.TypeFor[lockbox.Decimal](), option == "decimal":
		return decimalText, k == reflect.String || isText(t)
	case k == reflect.Float32:
		return func(v any) (any, error) { return reflect.ValueOf(v).Float(), nil }, true
	case k == reflect.String, k == reflect.Bool, k == reflect.Float64, k == reflect.Interface,
		reflect.Int <= k && k <= reflect.Uintptr, t == reflect.TypeFor[blindindex.Plaintext](),
		k == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return nil, true
	}
	return textOf, isText(t)
}

// textOf returns the text of a TextMarshaler, such as a big.Int or a UUID.
func textOf(v any) (any, error) {
	p := reflect.New(reflect.TypeOf(v)) // methods may have a pointer receiver
	p.Elem().Set(reflect.ValueOf(v))
	text, err := p.Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		return nil, fmt.Errorf("%w: a %T has no text", blindindex.ErrValue, v)
	}
	return string(text), nil
}

func timeText(v any, format func(time.Time) string) (any, error) {
	t, ok := v.(time.Time)
	if !ok { // a look-up of a text
		return v, nil
	}
	return format(t), nil
}

// decimalText is BigDecimal's to_s("F"), which Active Support makes the default.
func decimalText(v any) (any, error) {
	text := reflect.ValueOf(v).String()
	if reflect.TypeOf(v).Kind() != reflect.String {
		marshalled, err := textOf(v)
		if err != nil {
			return nil, err
		}
		text = marshalled.(string)
	}
	d, err := lockbox.ParseDecimal(text)
	if err != nil {
		return nil, fmt.Errorf("%w: not a decimal number", blindindex.ErrValue)
	}
	return string(d), nil
}

// textOption is the type= option that decides the text of a field's value.
func (f *fieldSpec) textOption() string {
	if f.valType == "" && f.ruby != attrEncryptedForm {
		return lockboxTypeOf(indirectType(f.goType))
	}
	return f.valType
}

// prepare chooses the text of a source.
func (s *source) prepare(t reflect.Type, f *fieldSpec) error {
	option := ""
	if f != nil {
		t, option = f.goType, f.textOption()
	}
	text, ok := indexTextOf(t, option)
	if !ok {
		return fmt.Errorf("%w: an index of a %v: index a field tagged `db:\"-\"` with the text that Ruby indexes", kmsencrypted.ErrConfig, t)
	}
	s.text = text
	return nil
}

// plain converts a value of the source.
func (s source) plain(value any) (any, error) {
	if s.text == nil || value == nil {
		return value, nil
	}
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer || v.Kind() == reflect.Struct {
		if value = indirect(v); value == nil {
			return nil, nil
		}
	}
	if _, isPlaintext := value.(blindindex.Plaintext); isPlaintext {
		return value, nil
	}
	return s.text(value)
}
