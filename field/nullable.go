package field

import (
	"database/sql"
	"database/sql/driver"
	"reflect"
)

// Go has many ways to represent NULL: nil, an sql.Null whose Valid is false, and
// similar types of other libraries, such as uuid.NullUUID and those of pgtype.

// isNull reports whether a Go value represents NULL.
func isNull(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return v.IsNil()
	case reflect.Struct:
		valid, ok := validFlag(v)
		return ok && !valid.Bool() && givesNull(v)
	}
	return false
}

// mayMeanNull reports whether isNull can be true of a value of this kind.
func mayMeanNull(k reflect.Kind) bool {
	switch k {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.Struct:
		return true
	}
	return false
}

// meansNull is [isNull] of a copy. Reflection moves the value to the heap; this moves
// only values that may mean NULL.
func meansNull[T any](v T) bool { return isNull(reflect.ValueOf(&v).Elem()) }

// validFlag returns the flag of a struct that says whether there is a value: its field
// Valid, or that of the only struct that it embeds.
func validFlag(v reflect.Value) (flag reflect.Value, ok bool) {
	for v.Kind() == reflect.Struct {
		t := v.Type()
		if f, ok := t.FieldByName("Valid"); ok && len(f.Index) == 1 {
			return v.Field(f.Index[0]), f.Type.Kind() == reflect.Bool
		}
		if t.NumField() != 1 || !t.Field(0).Anonymous {
			break
		}
		v = v.Field(0)
	}
	return flag, false
}

// givesNull asks the value itself for its form in a database. Not every type with a
// field named Valid is NULL if that is false.
func givesNull(v reflect.Value) bool {
	v, ok := exposed(v)
	if !ok {
		return false
	}
	valuer, ok := v.Addr().Interface().(driver.Valuer)
	if !ok {
		return false
	}
	value, err := valuer.Value()
	return value == nil && err == nil
}

// isNullable reports whether some values of a type other than a pointer represent
// NULL.
func isNullable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice, reflect.Map, reflect.Interface:
		return true
	}
	return hasValidFlag(t)
}

func hasValidFlag(t reflect.Type) bool {
	_, ok := validFlag(reflect.Zero(t))
	return ok && reflect.PointerTo(t).Implements(reflect.TypeFor[driver.Valuer]())
}

// nullCodec encodes the values of a struct that represent NULL as NULL.
func nullCodec(t reflect.Type, inner codec) codec {
	if t.Kind() != reflect.Struct || !hasValidFlag(t) {
		return inner
	}
	encode := inner.encode
	inner.encode = func(dst []byte, v reflect.Value) ([]byte, bool, error) {
		if isNull(v) {
			return dst, true, nil
		}
		return encode(dst, v)
	}
	return inner
}

// pointerCodec encodes nil as NULL.
func pointerCodec(inner codec) codec {
	c := codec{name: inner.name,
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
			if v.IsNil() {
				return dst, true, nil
			}
			return inner.encode(dst, v.Elem())
		},
		decode: func(v reflect.Value, plaintext []byte) error {
			v.Set(reflect.New(v.Type().Elem()))
			err := inner.decode(v.Elem(), plaintext)
			if err == errNull {
				v.SetZero()
			}
			return err
		},
	}
	if inner.same != nil {
		c.same = func(in, out reflect.Value) bool {
			return in.IsNil() == out.IsNil() && (in.IsNil() || inner.same(in.Elem(), out.Elem()))
		}
	}
	return c
}

// sqlNull recognises sql.Null[T] and the older types (sql.NullString, …): a struct of
// package sql with a value and Valid. They are stored like the value alone.
func sqlNull(t reflect.Type) (valueField int, ok bool) {
	if t.Kind() != reflect.Struct || t.PkgPath() != reflect.TypeFor[sql.NullString]().PkgPath() || t.NumField() != 2 {
		return 0, false
	}
	return 0, t.Field(1).Name == "Valid"
}

func sqlNullCodec(inner codec, valueField int) codec {
	const valid = 1
	c := codec{name: inner.name,
		encode: func(dst []byte, v reflect.Value) ([]byte, bool, error) {
			if !v.Field(valid).Bool() {
				return dst, true, nil
			}
			return inner.encode(dst, v.Field(valueField))
		},
		decode: func(v reflect.Value, plaintext []byte) error {
			err := inner.decode(v.Field(valueField), plaintext)
			v.Field(valid).SetBool(err == nil)
			return err
		},
	}
	if inner.same != nil {
		c.same = func(in, out reflect.Value) bool {
			return in.Field(valid).Bool() == out.Field(valid).Bool() && inner.same(in.Field(valueField), out.Field(valueField))
		}
	}
	return c
}
