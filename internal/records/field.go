package records

import (
	"reflect"
	"strings"
)

// Field is a field of a struct with a column, as a library finds it.
type Field struct {
	Column string
	Index  []int // for [reflect.Value.FieldByIndex]
	Struct reflect.StructField
	// ReadOnly and Returned are options of the tag db: a plain column that is never
	// written, and an id or a plain column that only the database knows, which is
	// read after the INSERT.
	ReadOnly, Returned bool
}

// option returns the value of an option in the field's kms tag, or "".
func (f Field) option(name string) string {
	for word := range strings.SplitSeq(f.Struct.Tag.Get("kms"), ",") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(word), name+"="); ok {
			return value
		}
	}
	return ""
}

// pointer returns a pointer to the field in a row.
func (f Field) pointer(row reflect.Value) any { return f.in(row).Addr().Interface() }

// in returns the field in a row. It allocates embedded structs.
func (f Field) in(row reflect.Value) reflect.Value {
	for _, i := range f.Index {
		if row.Kind() == reflect.Pointer {
			if row.IsNil() {
				row.Set(reflect.New(row.Type().Elem()))
			}
			row = row.Elem()
		}
		row = row.Field(i)
	}
	return row
}
