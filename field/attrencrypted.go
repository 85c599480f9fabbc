package field

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/attrencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// attrEncryptedModes are the names that attr_encrypted has for its modes.
var attrEncryptedModes = map[string]attrencrypted.Mode{
	"":                            attrencrypted.PerAttributeIV,
	"per_attribute_iv":            attrencrypted.PerAttributeIV,
	"per_attribute_iv_and_salt":   attrencrypted.PerAttributeIVAndSalt,
	"insecure_single_iv_and_salt": attrencrypted.InsecureSingleIVAndSalt,
}

// attrEncryptedEncodings are the values of encode:, encode_iv: and encode_salt: that
// matter, by pack's names for them; raw is false.
var attrEncryptedEncodings = map[string]attrencrypted.Encoding{
	"":    attrencrypted.Base64Lines,
	"m":   attrencrypted.Base64Lines,
	"m0":  attrencrypted.Base64,
	"raw": attrencrypted.Raw,
}

// attrEncryptedColumn is a column in attr_encrypted's form.
type attrEncryptedColumn struct {
	values  codec
	options attrencrypted.Options
	assumed encodingOptions // those that the tag does not have
}

// encodings sets the encodings of the columns.
func (c *attrEncryptedColumn) encodings(f *fieldSpec) error {
	for _, e := range []struct {
		option, value string
		to            *attrencrypted.Encoding
	}{{"encode", f.encode, &c.options.Value}, {"encode_iv", f.encodeIV, &c.options.IV}, {"encode_salt", f.encodeSalt, &c.options.Salt}} {
		encoding, ok := attrEncryptedEncodings[e.value]
		if !ok {
			return fmt.Errorf("%w: %s=%s, want m, m0 or raw", kmsencrypted.ErrConfig, e.option, e.value)
		}
		*e.to = encoding
	}
	c.assumed = encodingOptions{value: f.encode == "", iv: f.encodeIV == "", salt: f.encodeSalt == ""}
	if f.binary && f.encode != "" || f.encode == "raw" {
		return fmt.Errorf("%w: a column of bytes (encode: false) is tagged binary, without encode=", kmsencrypted.ErrConfig)
	}
	if f.binary {
		c.options.Value = attrencrypted.Raw
	}
	return nil
}

func newAttrEncryptedColumn(s *schema, f *fieldSpec, t reflect.Type) (rubyColumn, error) {
	mode, ok := attrEncryptedModes[f.mode]
	if !ok {
		return nil, fmt.Errorf("%w: mode=%s", kmsencrypted.ErrConfig, f.mode)
	}
	if f.allowEmpty && !f.marshal {
		return nil, fmt.Errorf("%w: allow_empty goes with marshal, because Ruby cannot encrypt the empty text", kmsencrypted.ErrConfig)
	}
	values, err := attrEncryptedCodec(t, marshalOf(f))
	if err != nil {
		return nil, err
	}
	c := &attrEncryptedColumn{values: values, options: attrencrypted.Options{Mode: mode, Algorithm: f.algorithm, ZeroIV: f.zeroIV, AllowEmptyValue: f.allowEmpty}}
	if err := c.encodings(f); err != nil {
		return nil, err
	}
	_, err = c.under(make([]byte, kmsencrypted.DataKeySize)) // checks the options
	return c, err
}

// encodingOptions are conditions on the options encode, encode_iv and encode_salt.
type encodingOptions struct{ value, iv, salt bool }

// checkEncoding refuses to write base64 in lines, because the tag names no encoding, over
// what Rails wrote in one line: it reads the lines no more under encode: "m0".
func (c *attrEncryptedColumn) checkEncoding(loaded columns) error {
	for _, column := range []struct {
		option   string
		assumed  bool
		encoding attrencrypted.Encoding
		stored
	}{
		{"encode", c.assumed.value, c.options.Value, loaded.value},
		{"encode_iv", c.assumed.iv, c.options.IV, loaded.parts.iv},
		{"encode_salt", c.assumed.salt, c.options.Salt, loaded.parts.salt},
	} {
		isLine := column.text != "" && !strings.Contains(column.text, "\n")
		if column.option == "encode_salt" { // a salt without the mark of a text is raw
			isLine = isLine && column.text[0] == '_'
		}
		if isLine && column.assumed && column.encoding == attrencrypted.Base64Lines {
			return fmt.Errorf("%w: the row has base64 in one line: tag the column %[2]s=m0 as in Rails, or %[2]s=m if Rails writes lines nevertheless", kmsencrypted.ErrConfig, column.option)
		}
	}
	return nil
}

// parts reports which columns the mode has in addition to the value.
func (c *attrEncryptedColumn) parts() (iv, salt bool) {
	return c.options.Mode != attrencrypted.InsecureSingleIVAndSalt, c.options.Mode == attrencrypted.PerAttributeIVAndSalt
}

func (c *attrEncryptedColumn) codec() *codec { return &c.values }

func (c *attrEncryptedColumn) storesEmpty() bool { return !c.options.AllowEmptyValue }

func (c *attrEncryptedColumn) variant() string { return fmt.Sprintf("attr_encrypted %+v", c.options) }

func (c *attrEncryptedColumn) under(key []byte) (rubySealer, error) {
	a, err := attrencrypted.New(key, c.options)
	return attrEncryptedSealer{a, c.options.IV, c.options.Salt}, err
}

type attrEncryptedSealer struct {
	*attrencrypted.Attribute
	iv, salt attrencrypted.Encoding
}

// part is an iv or salt as it is stored.
func (attrEncryptedSealer) part(content []byte, encoding attrencrypted.Encoding) stored {
	if content == nil {
		return nullColumn
	}
	return stored{text: string(content), binary: encoding == attrencrypted.Raw}
}

func (a attrEncryptedSealer) seal(plaintext, _ []byte, isBinary bool, _ *scratch) (columns, error) {
	sealed, err := a.Encrypt(plaintext)
	if err != nil {
		return columns{}, err
	}
	return columns{
		value: stored{text: string(sealed.Value), binary: isBinary},
		parts: &parts{iv: a.part(sealed.IV, a.iv), salt: a.part(sealed.Salt, a.salt)},
	}, nil
}

func (a attrEncryptedSealer) open(c columns, _ []byte, _ bool, buf *scratch) ([]byte, error) {
	stored := attrencrypted.Columns{Value: []byte(c.value.text)}
	if c.parts != nil {
		stored.IV, stored.Salt = bytesOrNil(c.parts.iv), bytesOrNil(c.parts.salt)
	}
	plaintext, err := a.Decrypt(stored)
	if err != nil {
		return nil, err
	}
	buf.plain = plaintext
	return plaintext, nil
}

func bytesOrNil(s stored) []byte {
	if s.null {
		return nil
	}
	return []byte(s.text)
}

// attrEncryptedCodec returns a codec that stores values as Ruby's to_s, or by marshal if
// that is not nil.
func attrEncryptedCodec(t reflect.Type, marshal *codec) (codec, error) {
	c, err := chooseAttrEncrypted(t, marshal)
	return nullCodec(t, c), err
}

func chooseAttrEncrypted(t reflect.Type, marshal *codec) (codec, error) {
	if t.Kind() == reflect.Pointer {
		inner, err := attrEncryptedCodec(t.Elem(), marshal)
		return pointerCodec(inner), err
	}
	if field, ok := sqlNull(t); ok {
		inner, err := attrEncryptedCodec(t.Field(field).Type, marshal)
		return sqlNullCodec(inner, field), err
	}
	if marshal != nil {
		return *marshal, jsonFault(t)
	}
	if t == reflect.TypeFor[time.Time]() {
		return codec{}, fmt.Errorf("%w: Ruby's to_s of a time is another text than Go's: keep a string", kmsencrypted.ErrConfig)
	}
	parse, ok := rubyText[t.Kind()]
	var same func(in, out reflect.Value) bool
	if isText(t) {
		parse, ok, same = parseTextUnmarshaler, true, sameValue
	} else if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
		parse, ok = func(v reflect.Value, text string) error { v.SetBytes([]byte(text)); return nil }, true
	}
	if !ok {
		return codec{}, fmt.Errorf("%w: a %v has no text in attr_encrypted: tag it marshal", kmsencrypted.ErrConfig, t)
	}
	return codec{
		name: "to_s", isText: t.Kind() == reflect.String, same: same,
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
			if m, ok := v.Addr().Interface().(encoding.TextMarshaler); ok {
				text, err := m.MarshalText()
				if err != nil {
					return nil, false, fmt.Errorf("%w: a %v has no text", kmsencrypted.ErrLossy, v.Type())
				}
				return append(dst, text...), false, nil
			}
			out, err := attrencrypted.AppendText(dst, baseValue(v))
			return out, v.Kind() == reflect.Slice && v.IsNil(), err
		},
		decode: func(v reflect.Value, plaintext []byte) error { return parse(v, string(plaintext)) },
	}, nil
}

// baseValue returns a value without its named type.
func baseValue(v reflect.Value) any {
	switch k := v.Kind(); {
	case k == reflect.String:
		return v.String()
	case k == reflect.Bool:
		return v.Bool()
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return v.Uint()
	case v.CanFloat():
		return v.Float()
	}
	return v.Bytes()
}

// rubyText parses what to_s wrote.
var rubyText = func() map[reflect.Kind]func(v reflect.Value, text string) error {
	integer := func(v reflect.Value, text string) error {
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return errNotOfType
		}
		v.SetInt(n)
		return nil
	}
	unsigned := func(v reflect.Value, text string) error {
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return errNotOfType
		}
		v.SetUint(n)
		return nil
	}
	float := func(v reflect.Value, text string) error {
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil {
			return errNotOfType
		}
		v.SetFloat(f)
		return nil
	}
	parsers := map[reflect.Kind]func(reflect.Value, string) error{
		reflect.String: func(v reflect.Value, text string) error { v.SetString(text); return nil },
		reflect.Bool: func(v reflect.Value, text string) error {
			v.SetBool(text == "true")
			if text != "true" && text != "false" {
				return errNotOfType
			}
			return nil
		},
		reflect.Float32: float, reflect.Float64: float,
	}
	for k := reflect.Int; k <= reflect.Int64; k++ {
		parsers[k] = integer
	}
	for k := reflect.Uint; k <= reflect.Uint64; k++ {
		parsers[k] = unsigned
	}
	return parsers
}()

func parseTextUnmarshaler(v reflect.Value, text string) error {
	if v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)) != nil {
		return errNotOfType
	}
	return nil
}

// marshalOf returns the codec of Ruby's Marshal format if the field has it.
func marshalOf(f *fieldSpec) *codec {
	switch {
	case !f.marshal:
		return nil
	case f.allowEmpty:
		return &marshalCodec
	}
	return &marshalBlankCodec
}

// marshalBlankCodec leaves the empty text as it is, as attr_encrypted does. For an any
// that is "" as well.
var marshalBlankCodec = codec{
	name: marshalCodec.name, same: marshalCodec.same,
	encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
		if isEmptyText(v) {
			return dst, false, nil
		}
		return marshalCodec.encode(dst, v)
	},
	decode: func(v reflect.Value, plaintext []byte) error {
		if len(plaintext) == 0 && v.Kind() == reflect.Interface {
			v.Set(reflect.ValueOf(""))
			return nil
		}
		return marshalCodec.decode(v, plaintext)
	},
}

func isEmptyText(v reflect.Value) bool {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	return v.Kind() == reflect.String && v.Len() == 0
}

var marshalCodec = codec{
	name: "marshal", same: sameValue,
	encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
		data, err := attrencrypted.Marshal(v.Interface())
		return append(dst, data...), false, err
	},
	decode: func(v reflect.Value, plaintext []byte) error {
		if len(plaintext) == 0 {
			return nil
		}
		value, err := attrencrypted.Unmarshal(plaintext)
		if err != nil {
			return err
		}
		if value == nil {
			return errNull
		}
		if rubycompat.Assign(v.Addr().Interface(), value) != nil {
			return errNotOfType
		}
		return nil
	},
}
