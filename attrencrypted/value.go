package attrencrypted

import (
	"strconv"

	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
	"github.com/kmsencrypted/kmsencrypted/internal/rubymarshal"
)

// The Ruby values that Go has no type for, as [Options.Marshal] uses them.
type (
	// Hash is a Ruby hash: entries in order, keys of any kind.
	Hash = rubycompat.Hash
	// Pair is one entry of a [Hash].
	Pair = rubycompat.Pair
	// DefaultHash is a hash with a value for the keys that it lacks.
	DefaultHash = rubycompat.DefaultHash
	// Symbol is a Ruby symbol, without its colon.
	Symbol = rubycompat.Symbol
	// String is a Ruby string in an encoding other than UTF-8 and binary.
	String = rubymarshal.String
	// ClassError reports an object of a Ruby class that this package does not read.
	ClassError = rubycompat.ClassError
)

// AppendText appends the text (to_s) of a string, []byte, boolean, integer, float,
// *big.Int or [Symbol] to dst: true, 123, 1.5. It returns [kmsencrypted.ErrConfig]
// for any other type.
func AppendText(dst []byte, v any) ([]byte, error) {
	if b, ok := v.(bool); ok {
		return strconv.AppendBool(dst, b), nil
	}
	dst, ok := rubycompat.AppendScalar(dst, v)
	if !ok {
		return dst, configError("no text for a %T: make it a string, or use Marshal", v)
	}
	return dst, nil
}

// Marshal returns v in Ruby's Marshal format 4.8, as [Options.Marshal] stores it.
// It accepts nil, booleans, numbers, strings, []byte (binary strings), slices,
// maps, structs by their json tags, and the types of this package. It returns
// [kmsencrypted.ErrConfig] for a value without a form in Ruby.
func Marshal(v any) ([]byte, error) { return rubymarshal.Marshal(v) }

// Unmarshal parses Ruby's Marshal format and returns nil, bool, int64, *big.Int
// (beyond int64), float64, string, []byte, []any or a type of this package. It
// returns [kmsencrypted.ErrMalformed] for other bytes, with a [ClassError] for
// objects of other classes.
func Unmarshal(data []byte) (any, error) { return rubymarshal.Unmarshal(data) }

// EncryptValue is like [Attribute.Encrypt] for a value: its text, or under
// [Options.Marshal] its Marshal format. Nil and the empty string are stored as
// they are, unless [Options.AllowEmptyValue] is set, which marshals them.
func (a *Attribute) EncryptValue(v any) (Columns, error) {
	if err := a.usable(); err != nil {
		return Columns{}, err
	}
	marshalEmpty := a.options.Marshal && a.options.AllowEmptyValue
	if v == nil && !marshalEmpty {
		return a.Encrypt(nil)
	}
	if isEmptyText(v) && !marshalEmpty {
		return a.Encrypt([]byte{})
	}
	var plaintext []byte
	var err error
	if a.options.Marshal {
		plaintext, err = Marshal(v)
	} else {
		plaintext, err = AppendText([]byte{}, v)
	}
	if err != nil {
		return Columns{}, err
	}
	defer clear(plaintext)
	return a.Encrypt(plaintext)
}

func isEmptyText(v any) bool {
	switch v := v.(type) {
	case string:
		return v == ""
	case []byte:
		return len(v) == 0
	}
	return false
}

// DecryptValue is like [Attribute.Decrypt] for a value. It returns nil for NULL,
// "" for the empty column, and otherwise the text as a string, or under
// [Options.Marshal] what [Unmarshal] returns.
func (a *Attribute) DecryptValue(c Columns) (any, error) {
	plaintext, err := a.Decrypt(c)
	switch {
	case err != nil:
		return nil, err
	case c.Value == nil:
		return nil, nil
	case len(c.Value) == 0 || !a.options.Marshal:
		return string(plaintext), nil
	}
	defer clear(plaintext)
	return Unmarshal(plaintext)
}
