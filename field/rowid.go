package field

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"

	"github.com/kmsencrypted/kmsencrypted"
)

// ID is the primary key of a record as texts, in the order of [Model.IDColumns]:
// as it is bound. It is nil while any of its columns is zero.
func (m *Model[R]) ID(row *R) []string {
	id := m.record(row).id()
	if len(id) == 0 {
		return nil
	}
	return id
}

// IDValues are the columns of the primary key as arguments of a statement.
func (m *Model[R]) IDValues(row *R) []any {
	r := m.record(row)
	values := make([]any, len(m.schema.ids))
	for i, id := range m.schema.ids {
		values[i] = r.at(id.index).Interface()
	}
	return values
}

// SetID fills in the primary key from the texts of [Model.ID]. Texts that are none
// are [kmsencrypted.ErrMalformed]; so is a primary key that has a text and cannot
// be read from it, for want of an [encoding.TextUnmarshaler].
func (m *Model[R]) SetID(row *R, id []string) error {
	if len(id) != len(m.schema.ids) {
		return fmt.Errorf("field: %w: primary key of %s with %d columns", kmsencrypted.ErrMalformed, m.Table(), len(id))
	}
	r := m.record(row)
	for i, spec := range m.schema.ids {
		if !setID(r.at(spec.index), id[i]) {
			return fmt.Errorf("field: %w: %s of %s", kmsencrypted.ErrMalformed, spec.column, m.Table())
		}
	}
	return nil
}

// setID is the inverse of idText.
func setID(v reflect.Value, text string) bool {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text)) == nil
	}
	switch {
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(n)
		return err == nil
	case v.CanUint():
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		v.SetUint(n)
		return err == nil
	default:
		return false
	}
	return true
}

// PlainColumns are the columns of the struct that this package neither seals nor
// counts to the primary key, by their tags.
func (m *Model[R]) PlainColumns() (columns []string) {
	for _, f := range m.schema.plain {
		columns = append(columns, f.column)
	}
	return columns
}

// Scan reads the current row of a result into a record, by the names of its
// columns; those that the struct does not have are left out. NULL leaves a plain
// field as it is. For [*sql.Rows] and what is like it.
func (m *Model[R]) Scan(rows interface {
	Columns() ([]string, error)
	Scan(dest ...any) error
}, row *R) error {
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	r := m.record(row)
	into := make([]any, len(names))
	var nullable []func()
	for i, name := range names {
		index, managed := m.schema.fieldOf(name)
		switch {
		case index == nil:
			into[i] = new(any)
		case managed:
			into[i] = r.at(index).Addr().Interface()
		default:
			v := r.at(index)
			p := reflect.New(reflect.PointerTo(v.Type())) // nil for NULL
			into[i] = p.Interface()
			nullable = append(nullable, func() {
				if !p.Elem().IsNil() {
					v.Set(p.Elem().Elem())
				}
			})
		}
	}
	if err := rows.Scan(into...); err != nil {
		return err
	}
	for _, set := range nullable {
		set()
	}
	return nil
}

// fieldOf is the field of the struct that has a column. Managed are those of this
// package, which scan themselves.
func (s *schema) fieldOf(column string) (index []int, managed bool) {
	for _, list := range [][]*idSpec{s.ids, s.plain} {
		for _, f := range list {
			if f.column == column {
				return f.index, false
			}
		}
	}
	return s.managed[column], true
}
