package field

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// A column is encrypted without downtime in three releases. While two of them run,
// neither reads anything older than the last write of the other:
//
//  1. migrating=Old. Both columns are written, and the old one is read, NULL
//     included: a program of the release before, which knows only that column, may
//     have written it last. When the last such program has ended, the rows are filled
//     and compared.
//  2. migrated=Old, once both columns of every row agree. Both columns are written,
//     for release 1, and the new one is read.
//  3. No tag, once release 1 has ended. Only the new column is read and written. When
//     release 2 has ended the old column is dropped.
//
// The old field may hold plaintext or be another encrypted column, such as one
// under Lockbox's master key. What a record knows of it is in replaced.go.

// assignMigrating finds the fields in the tags migrating= and migrated=.
func (b *builder) assignMigrating(t reflect.Type) {
	for _, f := range b.fields {
		option, name := "migrating", f.migrating
		if f.migrated != "" {
			option, name = "migrated", f.migrated
		}
		if name == "" {
			continue
		}
		if f.migrating != "" && f.migrated != "" {
			b.mistake(f.goName, "migrating= and migrated= exclude each other")
		}
		old, ok := b.find(f.goName, name)
		if !ok {
			b.mistake(f.goName, "%s=%s names no field of %v", option, name, t)
			continue
		}
		from, to := old.Type, f.goType
		if o, ok := reflect.New(old.Type).Interface().(holder); ok {
			from = o.valueType()
		}
		if indirectType(from) != indirectType(to) {
			b.mistake(f.goName, "%s=%s: a %v does not become a %v", option, name, from, to)
		}
		f.oldField, f.oldColumn = old.index, old.column
		if f.oldColumn == "" {
			b.mistake(f.goName, "%s=%s is no column", option, name)
		}
		b.replacing = append(b.replacing, f)
	}
}

// takesOld reports whether the column of the field that this one replaces is the one
// to read.
func (f *fieldSpec) takesOld() bool { return f.migrating != "" && f.oldField != nil }

// checkRead refuses a result with a column tagged migrating= and without the one that
// it replaces.
func (s *schema) checkRead(columns []string) error {
	for _, f := range s.replacing {
		if f.takesOld() && slices.Contains(columns, f.column) && !slices.Contains(columns, f.oldColumn) {
			return fmt.Errorf("%w: column %s, which is read while %s is tagged migrating: select both", kmsencrypted.ErrNotLoaded, f.oldColumn, f.column)
		}
	}
	return nil
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

// compareOld returns the old value, which is not valid for NULL, and whether a
// field holds the same.
func (r record) compareOld(f *fieldSpec, o holder) (old reflect.Value, same bool) {
	old, has := r.oldValue(f)
	if !has {
		old = reflect.Value{}
	}
	if state := o.head().state; state == null || state == unset {
		return old, !has
	}
	return old, has && sameValue(old, reflect.ValueOf(indirect(o.plaintext())))
}

// oldHolder is the old field if that is an encrypted one.
func (r record) oldHolder(f *fieldSpec) (holder, bool) {
	o, ok := r.at(f.oldField).Addr().Interface().(holder)
	return o, ok
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

// Migrated reports whether every field tagged migrating= or migrated= of an opened
// record has the same value in its own column as in that of the field that it
// replaces. Both columns must have been read. Migrated is false for a value that
// [Model.Open] took from the old column, until that is written.
func (m *Model[R]) Migrated(row *R) bool {
	return m.inner().migrated(row)
}

func (c *core) migrated(row any) bool {
	return !c.lacks(row) && !slices.ContainsFunc(c.schema.replacing, c.record(row).differs)
}

// checkReplaced gives an error to records whose columns differ from those that they
// replace.
func (w *work) checkReplaced() {
	for i := range w.records {
		r := &w.records[i]
		for _, f := range r.schema.replacing {
			if r.differs(f) {
				r.err = errors.Join(r.err, r.failed("compare", f.column, kmsencrypted.ErrNotMigrated))
			}
		}
	}
}

// differs reports whether the column of a field is known to differ from that of the
// field that it replaces.
func (r record) differs(f *fieldSpec) bool {
	o := r.field(f)
	switch h := o.head(); {
	case !r.isKnown(f.oldField), h.state == closed, h.state == unset:
		return false
	case h.old == oldTaken:
		return true
	case h.read && h.loaded.null && h.state != null:
		return true // not written yet
	}
	_, same := r.compareOld(f, o)
	return !same
}

// isKnown reports whether a field is plain, or opened or NULL.
func (r record) isKnown(index []int) bool {
	o, ok := r.at(index).Addr().Interface().(holder)
	return !ok || o.head().state != closed && o.head().state != unset
}
