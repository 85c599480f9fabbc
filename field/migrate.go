package field

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// A column is encrypted without downtime in four deployments:
//
//  1. The new field is tagged migrating=, naming the old one. Both columns are
//     written; a row whose new column is still NULL is read from the old one.
// 2. When no program is left that writes only the old column, the old rows are
// filled: read, opened, sealed and written like any other. If such a program
// changed a row after its new column was written, the row takes the old value
// again: [Model.TakeOld].
//  3. Once [Model.Migrated] is true of every row the tag goes; only the new column
//     is read and written.
//  4. The old column is dropped.
//
// The old field may hold plaintext or be another encrypted column, such as one
// under Lockbox's master key.

// oldState is the relation of a field to the one that it replaces.
type oldState uint8

const (
	oldAlone oldState = iota
	// oldTaken means that the program did not set the field, so it took over the old
	// value. It is written only if both columns are unchanged since they were read,
	// because a change by another program is newer.
	oldTaken
	// oldGiven means that the program set the field, and the old column is written
	// too.
	oldGiven
)

// assignMigrating finds the fields in the tags migrating=.
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
		f.oldField, f.oldColumn = old.Index, b.columnName(old)
		if f.oldColumn == "" {
			b.mistake(f.goName, "migrating=%s is no column", f.migrating)
		}
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

// takeOld gives fields whose column is still NULL the old value, as if the program
// had set it: the next Seal fills the column.
func (r *record) takeOld() {
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
				f.take(o, v)
			}
		}
	}
}

// take gives a field the value of the one that it replaces. If the program changes
// that in place, it is no longer the old value but one of the program's.
func (f *fieldSpec) take(o holder, v reflect.Value) {
	o.set(v)
	h := o.head()
	h.old = oldTaken
	if f.mutable && h.state == plain {
		if now, isNull, err := f.native.codec.encode(nil, o.plaintext()); err == nil {
			h.kept = f.keep(&f.native.codec, now, isNull)
		}
	}
}

// oldValue is the value of the old field without pointers; false for NULL and
// for one that is not opened.
func (r *record) oldValue(f *fieldSpec) (v reflect.Value, ok bool) {
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

// putOld gives the old field the value of a new one that was set, so that programs
// that know only the old column keep working.
func (r *record) putOld() error {
	for _, k := range r.schema.keys {
		for _, f := range k.fields {
			if f.oldField == nil {
				continue
			}
			h := r.field(f).head()
			if !h.dirty() || h.old == oldTaken {
				continue
			}
			if err := r.copyToOld(f); err != nil {
				return r.failed("seal", f.column, err)
			}
			h.old = oldGiven
		}
	}
	return nil
}

func (r *record) copyToOld(f *fieldSpec) error {
	o, old := r.field(f), r.at(f.oldField)
	var value any // nil is NULL
	if o.head().state == plain {
		value = indirect(o.plaintext())
	}
	if now, ok := r.oldValue(f); ok && sameValue(now, reflect.ValueOf(value)) {
		return nil
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

// writeOld adds to a Write what a field that replaces another needs.
func (g *group) writeOld(w *Write, f *fieldSpec, h *head, compared bool) {
	switch h.old {
	case oldGiven:
		if value, isPlain := g.oldColumnValue(f); isPlain {
			w.Set = append(w.Set, Assignment{Column: f.oldColumn, Value: value})
		}
	case oldTaken:
		if !h.changed() {
			return
		}
		if !compared {
			w.Where = append(w.Where, h.unchanged(f.column))
		}
		value, isPlain := g.oldColumnValue(f)
		if !isPlain || isComparable(value) {
			w.Where = append(w.Where, Assignment{Column: f.oldColumn, Value: value})
		}
	}
}

// oldColumnValue returns the content of the old column: the value in the struct
// for a plain one, what was read for an encrypted one.
func (r record) oldColumnValue(f *fieldSpec) (value driver.Value, isPlain bool) {
	v := r.at(f.oldField)
	if o, ok := v.Addr().Interface().(holder); ok {
		return o.head().before().value(), false
	}
	value, err := driver.DefaultParameterConverter.ConvertValue(v.Interface())
	if err != nil {
		return v.Interface(), true // a type that only the driver knows
	}
	return value, true
}

// isComparable reports whether a database recognises a value that it returned.
// Times and floats are not comparable, because their precision differs from Go's.
func isComparable(v driver.Value) bool {
	switch v.(type) {
	case nil, string, []byte, int64, bool:
		return true
	}
	return false
}

// Migrated reports whether every field tagged migrating= of an opened record has a
// column of its own with the same value as the field that it replaces. Both
// columns must have been read.
func (m *Model[R]) Migrated(row *R) bool {
	return !m.lacks(row) && !slices.ContainsFunc(m.migrating(), m.record(row).differs)
}

// TakeOld gives the fields tagged migrating= of opened records the values of the
// fields that they replace, if these differ. They must then be sealed and written.
// Use it when no program is left that writes only the old column: otherwise
// changes that such a program made to rows with a filled new column would be lost.
// Both columns must have been read.
//
// Opening a record does the same for columns that are NULL. A value that was taken
// over is written only if both columns are unchanged since they were read:
// [Write.Where]. A plain old column of times or floats is not compared, and one of
// PostgreSQL's type json cannot be: make it jsonb.
func (m *Model[R]) TakeOld(rows ...*R) {
	for _, row := range m.present(rows) {
		r := m.record(row)
		for _, f := range m.migrating() {
			if !r.differs(f) {
				continue
			}
			v, has := r.oldValue(f)
			if !has {
				v = reflect.Value{} // NULL
			}
			f.take(r.field(f), v)
		}
	}
}

// migrating returns the fields that replace others.
func (m *Model[R]) migrating() (all []*fieldSpec) {
	for _, k := range m.spec().keys {
		for _, f := range k.fields {
			if f.oldField != nil {
				all = append(all, f)
			}
		}
	}
	return all
}

// differs reports whether a field is known to differ from the one that it
// replaces, or only took its value.
func (r record) differs(f *fieldSpec) bool {
	if !r.isKnown(f.oldField) {
		return false
	}
	h := r.field(f).head()
	was, has := r.oldValue(f)
	switch {
	case h.state == null, h.read && h.loaded.null && has:
		return has
	case h.state == plain, h.state == opened:
		return !has || !sameValue(was, reflect.ValueOf(indirect(r.field(f).plaintext())))
	}
	return false
}

// isKnown reports whether a field is plain, or opened or NULL.
func (r record) isKnown(index []int) bool {
	o, ok := r.at(index).Addr().Interface().(holder)
	return !ok || o.head().state != closed && o.head().state != unset
}
