package lockbox

import "reflect"

// yamlCodec returns the codec of hash or array: YAML with a T at the top.
func yamlCodec[T Hash | []any](name string, yaml YAML) *codec {
	return &codec{
		name: name,
		append: func(dst []byte, v any) ([]byte, bool, error) {
			value := pointed(v)
			switch {
			case !value.IsValid():
				return dst, true, nil
			case !fits[T](value):
				return dst, false, configError("type %s does not take a %T", name, v)
			case value.Kind() != reflect.Struct && value.Len() == 0:
				return dst, true, nil
			}
			data, err := yaml.Marshal(v)
			if err != nil {
				return dst, false, err
			}
			return append(dst, data...), false, nil
		},
		parse: func(plaintext []byte, into any) (null bool, err error) {
			var value any
			if err := yaml.Unmarshal(plaintext, &value); err != nil {
				return false, err
			}
			if value == nil {
				return true, assign(into, nil)
			}
			if _, ok := value.(T); !ok {
				return false, malformed("not of type %s at the top", name)
			}
			return false, assign(into, value)
		},
	}
}

// maxPointers stops at a pointer to itself.
const maxPointers = 100

// pointed returns the value behind pointers and interfaces, or the zero Value
// for nil.
func pointed(v any) reflect.Value {
	value := reflect.ValueOf(v)
	for range maxPointers {
		if value.Kind() != reflect.Pointer && value.Kind() != reflect.Interface {
			break
		}
		value = value.Elem()
	}
	return value
}

// fits reports whether a value can be written as a T.
func fits[T Hash | []any](v reflect.Value) bool {
	isHash := v.Type() == reflect.TypeFor[Hash]()
	switch v.Kind() {
	case reflect.Map, reflect.Struct:
		isHash = true
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return false
		}
	default:
		return false
	}
	return isHash == (reflect.TypeFor[T]() == reflect.TypeFor[Hash]())
}
