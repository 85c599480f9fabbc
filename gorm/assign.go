package kmsgorm

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"

	"gorm.io/gorm/schema"

	"github.com/kmsencrypted/kmsencrypted"
)

// settable is a *field.Of of any type.
type settable interface {
	driver.Valuer
	IsSet() bool
	IsNull() bool
	IsLoaded() bool
	SetNull()
}

// assign sets a managed column of a record to a value from the program: a plaintext,
// or a field that holds one. It ignores a value that the column already has, because
// another plugin may have copied it from the record.
func (t *table) assign(ctx context.Context, row reflect.Value, column string, v any) error {
	to := t.fields[column].ReflectValueOf(ctx, row).Addr()
	from := reflect.ValueOf(v)
	for from.Kind() == reflect.Pointer && from.Type() != to.Type() && !from.IsNil() {
		from = from.Elem()
	}
	if from.IsValid() && from.Type() == to.Type().Elem() {
		return t.assignField(column, to, from)
	}
	if from.IsValid() && from.Type() == to.Type() && !from.IsNil() {
		return t.assignField(column, to, from.Elem())
	}
	return t.assignPlaintext(column, to, from)
}

// assignField takes the value of a field of the same type.
func (t *table) assignField(column string, to, from reflect.Value) error {
	if from.IsZero() || sameColumn(to.Interface(), from.Interface()) {
		return nil
	}
	copied := reflect.New(from.Type()) // from may have been passed by value
	copied.Elem().Set(from)
	value, ok := copied.Interface().(settable)
	switch {
	case !ok || value.IsLoaded() && !value.IsSet() && !value.IsNull():
		return t.refused("update", column, errors.ErrUnsupported, "the value is the ciphertext of another record")
	case value.IsNull():
		to.Interface().(settable).SetNull()
	default:
		to.MethodByName("Set").Call(copied.MethodByName("Get").Call(nil)[:1])
	}
	return nil
}

// sameColumn reports whether two fields hold the same column.
func sameColumn(a, b any) bool {
	x, err := a.(driver.Valuer).Value()
	y, other := b.(driver.Valuer).Value()
	return err == nil && other == nil && reflect.DeepEqual(asText(x), asText(y))
}

// assignPlaintext sets a field to a value of the type that it encrypts.
func (t *table) assignPlaintext(column string, to, from reflect.Value) error {
	target, ok := to.Interface().(settable)
	if !ok {
		return t.refused("update", column, kmsencrypted.ErrUnsealed, "the model computes this column: set the field that it belongs to")
	}
	if !from.IsValid() || from.Kind() == reflect.Pointer && from.IsNil() {
		target.SetNull()
		return nil
	}
	set := to.MethodByName("Set")
	value, ok := plaintext(from, set.Type().In(0))
	if !ok {
		return t.refused("update", column, kmsencrypted.ErrUnsealed, fmt.Sprintf("the field takes a %v, not a %v", set.Type().In(0), from.Type()))
	}
	set.Call([]reflect.Value{value})
	return nil
}

// plaintext converts v to another type that holds the same value.
func plaintext(v reflect.Value, to reflect.Type) (reflect.Value, bool) {
	switch {
	case v.Type().AssignableTo(to):
		return v, true
	case to.Kind() == reflect.Pointer:
		value, ok := plaintext(v, to.Elem())
		if !ok {
			return value, false
		}
		pointer := reflect.New(to.Elem())
		pointer.Elem().Set(value)
		return pointer, true
	case v.Kind() == to.Kind() && v.CanConvert(to) || isText(v.Type()) && isText(to):
		return v.Convert(to), true
	case v.CanInt() && reflect.Zero(to).CanInt() && !reflect.Zero(to).OverflowInt(v.Int()):
		return v.Convert(to), true
	case v.CanInt() && reflect.Zero(to).CanUint() && v.Int() >= 0 && !reflect.Zero(to).OverflowUint(uint64(v.Int())):
		return v.Convert(to), true
	case v.CanInt() && reflect.Zero(to).CanFloat(), v.CanFloat() && reflect.Zero(to).CanFloat():
		return v.Convert(to), true
	}
	return v, false
}

func isText(t reflect.Type) bool {
	return t.Kind() == reflect.String || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// takePlaintexts makes GORM's own assignments (Attrs, Assign, Statement.SetColumn)
// set the field. A value that GORM read from the database is a pointer to a field
// instead. For NULL it is a nil pointer, which GORM would treat as a column that was
// not read.
func (t *table) takePlaintexts(column string, f *schema.Field) {
	set, pointer := f.Set, reflect.PointerTo(f.FieldType)
	f.Set = func(ctx context.Context, row reflect.Value, v any) error {
		r := reflect.ValueOf(v)
		for r.Kind() == reflect.Pointer && r.Type() != pointer && !r.IsNil() {
			r = r.Elem()
		}
		switch {
		case r.IsValid() && r.Type() == pointer && r.IsNil():
			return f.ReflectValueOf(ctx, row).Addr().Interface().(sql.Scanner).Scan(nil)
		case r.IsValid() && r.Type() == pointer: // without a copy, which set would make
			f.ReflectValueOf(ctx, row).Set(r.Elem())
			return nil
		case r.IsValid() && r.Type() == f.FieldType:
			return set(ctx, row, r.Interface())
		}
		return t.assign(ctx, row, column, v)
	}
}
