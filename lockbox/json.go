package lockbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// maxJSONDepth is the nesting depth that Ruby reads; nothing deeper is written.
const maxJSONDepth = 100

// appendJSON writes any Go value as Rails' to_json writes its counterpart: floats as
// Ruby prints them (NaN and infinities as null), times with milliseconds, decimals as
// strings, text with Rails' escapes. Structs, maps and types with a MarshalJSON method
// follow encoding/json. A [Hash] keeps its order.
func appendJSON(dst []byte, v any) ([]byte, bool, error) {
	value, err := rubycompat.Reflection{MaxDepth: maxJSONDepth, Leaf: jsonLeaf}.Value(v)
	if err != nil {
		return dst, false, configError("type json: %w", err)
	}
	if value == nil {
		return dst, true, nil
	}
	dst, err = appendJSONValue(dst, value)
	if err != nil {
		return dst, false, configError("type json: %w", err)
	}
	return dst, false, nil
}

// rawJSON is JSON that a value marshalled itself.
type rawJSON []byte

// errMarshaler replaces the error of a marshaler, which may quote the value.
var errMarshaler = errors.New("the MarshalJSON method of a value failed")

func jsonLeaf(v any) (any, bool, error) {
	switch v := v.(type) {
	case Decimal:
		d, err := ParseDecimal(string(v))
		if err != nil {
			return nil, false, errors.New("an invalid Decimal")
		}
		if _, finite := d.Rat(); !finite {
			return rawJSON("null"), true, nil
		}
		return string(d), true, nil
	case time.Time:
		return v.Format("2006-01-02T15:04:05.000Z07:00"), true, nil
	case json.Marshaler:
		// Compact, valid, and with the escapes of Rails.
		data, err := json.Marshal(v)
		if err != nil {
			return nil, false, errMarshaler
		}
		return rawJSON(data), true, nil
	}
	return nil, false, nil
}

func appendJSONValue(dst []byte, value any) ([]byte, error) {
	var err error
	switch v := value.(type) {
	case nil:
		return append(dst, "null"...), nil
	case rawJSON:
		return append(dst, v...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case *big.Int:
		return v.Append(dst, 10), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return append(dst, "null"...), nil
		}
		return rubycompat.AppendFloat(dst, v), nil
	case string:
		return rubycompat.AppendJSONString(dst, v, rubycompat.JSONEscapes[0])
	case rubycompat.Symbol:
		return rubycompat.AppendJSONString(dst, string(v), rubycompat.JSONEscapes[0])
	case []byte: // as encoding/json does
		dst = append(dst, '"')
		return append(append(dst, rubycompat.StrictEncode64(v)...), '"'), nil
	case []any:
		dst = append(dst, '[')
		for i, item := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendJSONValue(dst, item); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	case Hash:
		dst = append(dst, '{')
		for i, p := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendJSONKey(dst, p.Key); err != nil {
				return dst, err
			}
			if dst, err = appendJSONValue(append(dst, ':'), p.Value); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	}
	return dst, errors.ErrUnsupported
}

// appendJSONKey writes a key as the to_s of its value.
func appendJSONKey(dst []byte, key any) ([]byte, error) {
	var text []byte
	switch k := key.(type) {
	case nil:
	case bool:
		text = strconv.AppendBool(nil, k)
	default:
		var ok bool
		if text, ok = rubycompat.AppendScalar(nil, k); !ok {
			return dst, errors.ErrUnsupported
		}
	}
	return rubycompat.AppendJSONString(dst, string(text), rubycompat.JSONEscapes[0])
}

// parseJSON parses JSON into any Go value by the rules of encoding/json. Into a *any
// it returns nil, bool, int64, *big.Int (beyond int64), float64, string, []any and
// map[string]any. Into a *[Hash] it keeps the order of the keys. In interfaces inside
// structs a number is a [json.Number].
func parseJSON(plaintext []byte, into any) (null bool, err error) {
	if len(bytes.TrimSpace(plaintext)) == 0 {
		return true, assign(into, nil)
	}
	decoder := json.NewDecoder(bytes.NewReader(plaintext))
	decoder.UseNumber()
	value, err := readJSON(decoder, 0)
	if err != nil || !utf8.Valid(plaintext) || halfSurrogate(plaintext) {
		return false, malformed("not JSON")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return false, malformed("more than one value of JSON")
	}
	switch into.(type) {
	case *any, *[]any:
		if value, err = rubycompat.Plain(value); err != nil {
			return false, malformed("%w", err)
		}
	}
	return value == nil, assign(into, value)
}

// halfSurrogate reports whether valid JSON has an escape for half of a surrogate pair,
// which Ruby refuses and encoding/json replaces by another character.
func halfSurrogate(text []byte) bool {
	const size = len(`\uD800`)
	unit := func(at int) rune { // of the escape at at, 0 if there is none
		if at+size > len(text) || text[at] != '\\' || text[at+1] != 'u' {
			return 0
		}
		n, _ := strconv.ParseUint(string(text[at+2:at+size]), 16, 16)
		return rune(n)
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		first := unit(i)
		switch {
		case !utf16.IsSurrogate(first):
			i++ // skip the escaped character
		case utf16.DecodeRune(first, unit(i+size)) == utf8.RuneError:
			return true
		default:
			i += 2*size - 1
		}
	}
	return false
}

// assign stores a Ruby value in *into.
func assign(into, value any) error {
	if err := rubycompat.Assign(into, value); err != nil {
		return malformed("%w", err)
	}
	return nil
}

// readJSON reads one value, objects as [Hash]. The last of equal keys counts, in the
// place of the first.
func readJSON(decoder *json.Decoder, depth int) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Number:
		return rubycompat.Number(string(t))
	case json.Delim:
		if depth >= maxJSONDepth {
			return nil, rubycompat.ErrDepth
		}
		if t == '[' {
			return readJSONArray(decoder, depth+1)
		}
		return readJSONObject(decoder, depth+1)
	}
	return token, nil
}

func readJSONArray(decoder *json.Decoder, depth int) (any, error) {
	list := []any{}
	for decoder.More() {
		item, err := readJSON(decoder, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	_, err := decoder.Token()
	return list, err
}

func readJSONObject(decoder *json.Decoder, depth int) (any, error) {
	hash := Hash{}
	places := make(map[string]int)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		value, err := readJSON(decoder, depth)
		if err != nil {
			return nil, err
		}
		key := token.(string)
		if at, seen := places[key]; seen {
			hash[at].Value = value
			continue
		}
		places[key] = len(hash)
		hash = append(hash, Pair{Key: key, Value: value})
	}
	_, err := decoder.Token()
	return hash, err
}

// appendStore writes a hash as JSON, and an empty one as null.
func appendStore(dst []byte, v any) ([]byte, bool, error) {
	out, null, err := appendJSON(dst, v)
	if err != nil || null {
		return dst, null, err
	}
	text := string(out[len(dst):])
	if text == "{}" {
		return dst, true, nil
	}
	if text[0] != '{' {
		return dst, false, configError("type store takes a hash, not a %T", v)
	}
	return out, false, nil
}

// parseStore reads a hash.
func parseStore(plaintext []byte, into any) (null bool, err error) {
	var hash Hash
	if null, err = parseJSON(plaintext, &hash); err != nil || null {
		return null, err
	}
	return false, assign(into, hash)
}
