package blindindex

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strconv"

	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// ErrValue reports a value that cannot be indexed because of its type or because
// an expression refuses it.
var ErrValue = errors.New("value cannot be indexed")

// Plaintext is a value to be indexed: bytes, usually UTF-8 text, or NULL. The zero
// value is NULL. It prints as "[redacted]" everywhere.
type Plaintext struct {
	// A pointer, because fmt prints the unexported fields of a struct without calling
	// their methods.
	text *string
}

// Text returns a plaintext that is not NULL.
func Text(text string) Plaintext { return Plaintext{&text} }

// IsNull reports whether the plaintext is NULL.
func (p Plaintext) IsNull() bool { return p.text == nil }

// Text returns the plaintext itself, "" for NULL.
func (p Plaintext) Text() string {
	if p.text == nil {
		return ""
	}
	return *p.text
}

// PlaintextOf converts a Go value to the text that Ruby's to_s returns for the
// same value:
//
//   - a string or []byte is taken as it is, whether it is valid UTF-8 or not;
//   - an integer becomes decimal digits, so that 123 and "123" are equal;
//   - a bool becomes "true" or "false";
//   - a float64 becomes Ruby's text for it: 1.0, 1.5, 1.0e+20;
//   - nil, a nil pointer and a nil []byte are NULL; a pointer counts as what it points to;
//   - a Plaintext is itself.
//
// A named type counts as its underlying type. PlaintextOf returns [ErrValue] for
// everything else, because it has more than one text: format a time yourself.
func PlaintextOf(value any) (Plaintext, error) {
	p, err := plaintextOf(value)
	if err != nil {
		return Plaintext{}, fmt.Errorf("blindindex: %w", err)
	}
	return p, nil
}

func plaintextOf(value any) (Plaintext, error) {
	switch v := value.(type) {
	case nil:
		return Plaintext{}, nil
	case Plaintext:
		return v, nil
	case string:
		return Text(v), nil
	}
	v := reflect.ValueOf(value)
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return Plaintext{}, nil
		}
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.String:
		return Text(v.String()), nil
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		if v.IsNil() {
			return Plaintext{}, nil
		}
		return Text(string(v.Bytes())), nil
	case v.CanInt():
		return Text(strconv.FormatInt(v.Int(), 10)), nil
	case v.CanUint():
		return Text(strconv.FormatUint(v.Uint(), 10)), nil
	case v.Kind() == reflect.Bool:
		return Text(strconv.FormatBool(v.Bool())), nil
	case v.Kind() == reflect.Float64:
		return Text(string(rubycompat.AppendFloat(nil, v.Float()))), nil
	}
	return Plaintext{}, fmt.Errorf("%w: no text for a %T", ErrValue, value)
}

// Compound returns one plaintext for several fields, for an index over all of them
// together. A look-up must then give every field. The result is NULL if any field
// is. Fields are values that [PlaintextOf] accepts. Apply expressions to the
// fields, not to the result.
//
// Each field is preceded by its length (4 bytes, big endian), so that ("ab", "c")
// and ("a", "bc") differ. Ruby has no such form: an index over a virtual attribute
// of a Ruby model indexes the text that the attribute returns, as in Compute(first
// + " " + last).
func Compound(fields ...any) (Plaintext, error) {
	var joined []byte
	for _, field := range fields {
		p, err := PlaintextOf(field)
		if err != nil {
			return Plaintext{}, err
		}
		if p.IsNull() {
			return Plaintext{}, nil
		}
		joined = canon.AppendString(joined, p.Text())
	}
	return Text(string(joined)), nil
}

const redactedPlaintext = "[redacted]"

// Format implements [fmt.Formatter]: redacted under every verb.
func (p Plaintext) Format(f fmt.State, _ rune) { io.WriteString(f, redactedPlaintext) }

// LogValue implements [slog.LogValuer]: redacted.
func (p Plaintext) LogValue() slog.Value { return slog.StringValue(redactedPlaintext) }

// MarshalJSON implements [encoding/json.Marshaler]: redacted.
func (p Plaintext) MarshalJSON() ([]byte, error) { return []byte(`"` + redactedPlaintext + `"`), nil }
