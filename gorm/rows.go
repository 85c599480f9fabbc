package kmsgorm

import (
	"reflect"
	"slices"
)

// rows are records in the form that a [field.Model] of type any takes: each any holds
// a pointer to the struct.
type rows []*any

// rowOf returns the struct v as a row.
func rowOf(v reflect.Value) *any {
	row := v.Addr().Interface()
	return &row
}

// valueOf returns the pointer in a row, which is what GORM's schema takes.
func valueOf(row *any) reflect.Value { return reflect.ValueOf(*row) }

// find lists the records in a value from GORM: a struct, or a slice or array of
// structs or of pointers. It returns false if the value contains anything else, or a
// struct that cannot be changed because it was passed by value.
func (t *table) find(v reflect.Value) (found rows, ok bool) {
	return t.appendFound(nil, v)
}

func (t *table) appendFound(found rows, v reflect.Value) (_ rows, ok bool) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Array {
		found = slices.Grow(found, v.Len())
		for i := range v.Len() {
			if found, ok = t.appendFound(found, v.Index(i)); !ok {
				return nil, false
			}
		}
		return found, true
	}
	if !v.IsValid() || v.Type() != t.rowType || !v.CanAddr() {
		return nil, false
	}
	return append(found, rowOf(v)), true
}
