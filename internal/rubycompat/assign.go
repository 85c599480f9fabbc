package rubycompat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
)

// errAssign replaces the error for a value that does not fit, because errors of
// encoding/json may quote it.
var errAssign = errors.New("value does not fit")

// Assign stores a Ruby value in *into. *any and pointers to the types of Ruby values
// receive it unchanged. A map[string]any receives hashes as maps, recursively, with
// symbols and integers as text keys. Other types follow the rules of encoding/json,
// with numbers in interfaces as [json.Number].
func Assign(into any, value any) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("%w: into a %T, which is not a pointer", errAssign, into)
	}
	if value == nil {
		target.Elem().SetZero()
		return nil
	}
	if v := reflect.ValueOf(value); v.Type().AssignableTo(target.Elem().Type()) {
		target.Elem().Set(v)
		return nil
	}
	if m, ok := into.(*map[string]any); ok {
		plain, err := Plain(value)
		if err != nil {
			return err
		}
		if *m, ok = plain.(map[string]any); !ok {
			return fmt.Errorf("%w into a %T", errAssign, *m)
		}
		return nil
	}
	data, err := bridge(value)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%w into a %v", errAssign, target.Type().Elem())
	}
	return nil
}

// Plain returns a Ruby value with every hash converted to a map[string]any.
func Plain(value any) (any, error) {
	switch v := value.(type) {
	case Hash:
		m := make(map[string]any, len(v))
		for _, p := range v {
			key, err := keyText(p.Key)
			if err != nil {
				return nil, err
			}
			if m[key], err = Plain(p.Value); err != nil {
				return nil, err
			}
		}
		return m, nil
	case DefaultHash:
		return Plain(v.Hash)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			var err error
			if list[i], err = Plain(v[i]); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return value, nil
}

func keyText(key any) (string, error) {
	switch k := key.(type) {
	case string:
		return k, nil
	case Symbol:
		return string(k), nil
	case int64:
		return strconv.FormatInt(k, 10), nil
	}
	return "", fmt.Errorf("%w: a key that is a %T", errAssign, key)
}

// bridge returns a Ruby value as JSON, to fill a Go type from.
func bridge(value any) ([]byte, error) {
	plain, err := Plain(value)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(exactFloats(plain))
	if err != nil {
		return nil, fmt.Errorf("%w", errAssign)
	}
	return data, nil
}

// exactFloats keeps 1.0 from being written as 1, which would be read as an integer.
func exactFloats(value any) any {
	switch v := value.(type) {
	case float64:
		return json.Number(AppendFloat(nil, v))
	case map[string]any:
		for key := range v {
			v[key] = exactFloats(v[key])
		}
	case []any:
		for i := range v {
			v[i] = exactFloats(v[i])
		}
	}
	return value
}
