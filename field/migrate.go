package field

import (
	"fmt"
	"reflect"

	"github.com/kmsencrypted/kmsencrypted"
)

// A column is encrypted without downtime in four deployments:
//
//  1. The new field is tagged migrating=, naming the old one. Both columns are
//     written; a row whose new column is still NULL is read from the old one.
//  2. The old rows are filled: read, opened, sealed and written as any other.
//  3. Once no row has the old value alone, the tag goes; only the new column is
//     read and written.
//  4. The old column is dropped.
//
// The old field may hold plaintext or be another encrypted column, such as one
// under Lockbox's master key.

// assignMigrating finds the fields that the tags migrating= name.
func (b *builder) assignMigrating(t reflect.Type) {
	for _, f := range b.fields {
		if f.migrating == "" {
			continue
		}
		old, ok := t.FieldByName(f.migrating)
		if !ok {
			b.mistake(f.goName, "migrating=%s names no field of %v", f.migrating, t)
			continue
		}
		from, to := old.Type, f.goType
		if o, ok := reflect.New(old.Type).Interface().(holder); ok {
			from = o.valueType()
		}
		if indirectType(from) != indirectType(to) {
			b.mistake(f.goName, "migrating=%s: a %v does not become a %v", f.migrating, from, to)
		}
		f.oldField = old.Index
	}
}

func indirectType(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	if field, ok := sqlNull(t); ok {
		return t.Field(field).Type
	}
	return t
}

// takeOld gives fields whose column is still NULL the value of the old one, as
// if the program had set it: the next Seal fills the column.
func (r record) takeOld() {
	for _, k := range r.schema.keys {
		for _, f := range k.fields {
			if f.oldField == nil {
				continue
			}
			o := r.field(f)
			if h := o.head(); h.state != null || h.set || !h.read {
				continue
			}
			if v, ok := r.oldValue(f); ok {
				o.set(v)
			}
		}
	}
}

// oldValue is the value of the old field without pointers; false for NULL and
// for one that is not opened.
func (r record) oldValue(f *fieldSpec) (v reflect.Value, ok bool) {
	v = r.at(f.oldField)
	if o, isHolder := v.Addr().Interface().(holder); isHolder {
		if h := o.head(); h.state != plain && h.state != opened {
			return v, false
		}
		v = o.plaintext()
	}
	if isNull(v) {
		return v, false
	}
	return reflect.ValueOf(indirect(v)), true
}

// putOld gives the old field the value of a new one that was set, so that
// programs which know only the old column go on.
func (r record) putOld() error {
	for _, k := range r.schema.keys {
		for _, f := range k.fields {
			if f.oldField == nil || !r.field(f).head().dirty() {
				continue
			}
			if err := r.copyToOld(f); err != nil {
				return r.failed("seal", f.column, err)
			}
		}
	}
	return nil
}

func (r record) copyToOld(f *fieldSpec) error {
	o, old := r.field(f), r.at(f.oldField)
	var value any // nil is NULL
	if o.head().state == plain {
		value = indirect(o.plaintext())
	}
	if now, ok := r.oldValue(f); ok && reflect.DeepEqual(now.Interface(), value) {
		return nil // the new column is only being filled
	}
	if other, ok := old.Addr().Interface().(holder); ok {
		other.set(reflect.ValueOf(value))
		return nil
	}
	return assignIndirect(old, value)
}

// assignIndirect sets v, which may be a pointer or sql.Null, to a value or to nil.
func assignIndirect(v reflect.Value, value any) error {
	if value == nil {
		if v.Kind() != reflect.Pointer && !isNullable(v.Type()) {
			return fmt.Errorf("%w: the old field is a %v and cannot be NULL", kmsencrypted.ErrConfig, v.Type())
		}
		v.SetZero()
		return nil
	}
	switch field, isSQLNull := sqlNull(v.Type()); {
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		p.Elem().Set(reflect.ValueOf(value))
		v.Set(p)
	case isSQLNull:
		v.Field(field).Set(reflect.ValueOf(value))
		v.Field(1).SetBool(true)
	default:
		v.Set(reflect.ValueOf(value))
	}
	return nil
}

func isNullable(t reflect.Type) bool {
	_, ok := sqlNull(t)
	return ok || t.Kind() == reflect.Slice || t.Kind() == reflect.Map || t.Kind() == reflect.Interface
}

// Migrated reports whether every field tagged migrating= of a record that was
// read has its own column filled, or nothing to fill it with.
func (m *Model[R]) Migrated(row *R) bool {
	r := m.record(row)
	for _, k := range m.schema.keys {
		for _, f := range k.fields {
			if f.oldField == nil {
				continue
			}
			if h := r.field(f).head(); h.read && h.loaded.null {
				if _, has := r.oldValue(f); has {
					return false
				}
			}
		}
	}
	return true
}
