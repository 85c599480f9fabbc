package kmsencrypted

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"

	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// textOf returns a context value as text: strings as they are, integers in
// decimal. Other types have no text.
func textOf(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), true
	case int:
		return strconv.Itoa(v), true
	case *big.Int:
		if v == nil {
			return "", false
		}
		return v.String(), true
	}
	// Named string and integer types count too, because a tenant id is rarely a
	// bare int64.
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.String:
		return v.String(), true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10), true
	}
	return "", false
}

// pairsJSON returns the compact JSON object of a versioned context.
func pairsJSON(pairs []boundPair, form contextForm) (string, error) {
	dst := make([]byte, 0, 128)
	var err error
	for i, p := range pairs {
		dst = append(dst, separator(i))
		if dst, err = appendString(dst, p.name, form); err != nil {
			return "", err
		}
		dst = append(dst, ':')
		if dst, err = appendString(dst, p.text, form); err != nil {
			return "", err
		}
	}
	return string(closeObject(dst)), nil
}

// legacyJSON returns the JSON object of a context as kms_encrypted sent it
// before 1.0: in its own order, with every value of its own type.
func legacyJSON(c OrderedContext, form contextForm) (string, error) {
	var dst []byte
	var err error
	for i, p := range c {
		dst = append(dst, separator(i))
		if dst, err = appendString(dst, p.Name, form); err != nil {
			return "", err
		}
		dst = append(dst, ':')
		if dst, err = appendLegacyJSON(dst, p.Value, form); err != nil {
			return "", err
		}
	}
	return string(closeObject(dst)), nil
}

func separator(i int) byte {
	if i == 0 {
		return '{'
	}
	return ','
}

func closeObject(dst []byte) []byte {
	if len(dst) == 0 {
		dst = append(dst, '{')
	}
	return append(dst, '}')
}

func appendString(dst []byte, text string, form contextForm) ([]byte, error) {
	dst, err := rubycompat.AppendJSONString(dst, text, form.escapes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrContext, err)
	}
	return dst, nil
}

// appendLegacyJSON appends a value with its JSON type. It accepts everything
// that has JSON.
func appendLegacyJSON(dst []byte, value any, form contextForm) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return append(dst, "null"...), nil
		}
		return rubycompat.AppendFloat(dst, v), nil
	case json.Number:
		return append(dst, v...), nil
	case Context, OrderedContext:
		nested, err := v.(EncryptionContext).bind(form)
		return append(dst, nested.text...), err
	}
	text, ok := textOf(value)
	if !ok {
		return nil, fmt.Errorf("%w: no JSON for a %T", ErrContext, value)
	}
	if reflect.TypeOf(value).Kind() == reflect.String {
		return appendString(dst, text, form)
	}
	return append(dst, text...), nil
}
