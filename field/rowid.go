package field

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"

	"github.com/kmsencrypted/kmsencrypted"
)

// setID sets the primary key.
func (r record) setID(id []string) error {
	if len(id) != len(r.schema.ids) {
		return fmt.Errorf("field: %w: primary key of %s with %d columns", kmsencrypted.ErrMalformed, r.schema.config.Table, len(id))
	}
	for i, spec := range r.schema.ids {
		if !parseID(r.at(spec.index), id[i]) {
			return fmt.Errorf("field: %w: %s of %s", kmsencrypted.ErrMalformed, spec.column, r.schema.config.Table)
		}
	}
	return nil
}

// parseID is the inverse of idText.
func parseID(v reflect.Value, text string) bool {
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

// scan reads the current row of a result.
func (r record) scan(rows Rows) error {
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	if err := r.schema.checkRead(names); err != nil {
		return r.failed("scan", "", err)
	}
	into := make([]any, len(names))
	var nullable []func()
	for i, name := range names {
		index, managed := r.schema.fieldOf(name)
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

// fieldOf returns the field of the struct for a column. managed means a type of
// this package, which scans itself.
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

// plaintextOf returns the plaintext of a column.
func (r record) plaintextOf(column string) (any, error) {
	index, managed := r.schema.fieldOf(column)
	if !managed || index == nil {
		return nil, fmt.Errorf("field: %w: %s has no encrypted column %s", kmsencrypted.ErrConfig, r.schema.config.Table, column)
	}
	o, ok := r.at(index).Addr().Interface().(holder)
	if !ok {
		return nil, fmt.Errorf("field: %w: column %s holds a key or an index", kmsencrypted.ErrConfig, column)
	}
	switch o.head().state {
	case plain, opened:
		return indirect(o.plaintext()), nil
	case null:
		if !o.head().waits() {
			return nil, nil
		}
		fallthrough
	case closed:
		return nil, kmsencrypted.ErrNotOpened
	}
	return nil, kmsencrypted.ErrNotLoaded
}
