package field

import (
	"bytes"
	"database/sql/driver"
	"errors"
	"reflect"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// A field that replaces another remembers what the plain column of that one holds
// (head.was). So it can be told later whether the program set the old field, the new
// one, or neither. If it set one, both columns are written; if neither, the old
// column is left alone, because another program may have written it since.

// oldState is the relation of a field to the one that it replaces.
type oldState uint8

const (
	oldAlone oldState = iota
	// oldTaken means that the program set neither field, and the new one took the value
	// of the old one. It is written only if both columns are unchanged since they were
	// read, because a change by another program is newer.
	oldTaken
	// oldGiven means that the program set one of the fields: both columns are written.
	oldGiven
)

// takeOld makes opened fields remember the old columns, and gives those tagged
// migrating= the values of these.
func (r *record) takeOld() error {
	var errs []error
	for _, f := range r.schema.replacing {
		errs = append(errs, r.takeOldOf(f, r.field(f)))
	}
	return errors.Join(errs...)
}

// takeOldOf gives a field the value of the one that it replaces, if its own is
// another one. The next Seal brings its column up to date.
func (r *record) takeOldOf(f *fieldSpec, o holder) error {
	h := o.head()
	if !h.read || h.dirty() {
		return nil
	}
	if value, isPlain := r.oldColumnValue(f); isPlain && h.was == nil {
		h.was = &[]driver.Value{value}
	}
	if !f.takesOld() || h.old != oldAlone {
		return nil
	}
	if old, ok := r.oldHolder(f); ok && old.head().state == unset {
		return r.failed("open", f.oldColumn, kmsencrypted.ErrNotLoaded)
	}
	if h.state == closed || !r.isKnown(f.oldField) {
		return nil // another error says why
	}
	if v, same := r.compareOld(f, o); !same {
		f.take(o, v)
	}
	return nil
}

// waitsForOld reports whether the field that one tagged migrating= replaces is an
// encrypted one that has yet to be opened.
func (r *record) waitsForOld(f *fieldSpec) bool {
	if !f.takesOld() {
		return false
	}
	old, isEncrypted := r.oldHolder(f)
	return isEncrypted && old.head().state == closed
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

// putOld gives both fields the value that the program set in one of them. If it set
// both, the new one counts.
func (r *record) putOld(mode sealMode) error {
	for _, f := range r.schema.replacing {
		o := r.field(f)
		h := o.head()
		isOldSet := r.isOldSet(f, o, mode)
		if isOldSet {
			v, _ := r.compareOld(f, o)
			o.set(v)
		}
		isCopy := mode == asNew && h.state == opened
		if isOldSet || isCopy || h.dirty() && h.old != oldTaken {
			if err := r.copyToOld(f, o); err != nil {
				return r.failed("seal", f.column, err)
			}
			h.old = oldGiven
		}
		if value, isPlain := r.oldColumnValue(f); isPlain && mode == asNew {
			h.was = &[]driver.Value{value}
		}
	}
	return nil
}

// adoptOld is putOld for a record that overwrites the row of another.
func (r record) adoptOld(stored record) {
	for _, f := range r.schema.replacing {
		o := r.field(f)
		_, isPlain := r.oldColumnValue(f)
		switch h := o.head(); {
		case r.isOldSet(f, o, asNew):
			v, _ := r.compareOld(f, o)
			o.set(v)
		case isPlain && h.old != oldGiven && (!h.dirty() || h.old == oldTaken):
			r.at(f.oldField).Set(stored.at(f.oldField))
		}
	}
}

// isOldSet reports whether the program set the old field and not the new one.
func (r *record) isOldSet(f *fieldSpec, o holder, mode sealMode) bool {
	h := o.head()
	old, isEncrypted := r.oldHolder(f)
	switch {
	case h.dirty() && h.old != oldTaken:
		return false
	case isEncrypted && (h.read || mode == asNew):
		return old.head().dirty()
	case isEncrypted:
		return false
	case h.was != nil:
		now, _ := r.oldColumnValue(f)
		was := *h.was
		return !sameColumnValue(now, was[len(was)-1])
	case mode == asNew && (h.state == unset || h.filled):
		_, has := r.oldValue(f)
		return has
	}
	return false
}

// copyToOld gives the old field the value of the new one.
func (r *record) copyToOld(f *fieldSpec, o holder) error {
	old := r.at(f.oldField)
	if _, same := r.compareOld(f, o); same && r.isKnown(f.oldField) {
		return nil
	}
	var value any // nil is NULL
	if o.head().state != null {
		value = indirect(o.plaintext())
	}
	if other, ok := old.Addr().Interface().(holder); ok {
		other.set(reflect.ValueOf(value))
		return nil
	}
	return assignIndirect(old, value)
}

// writeOld adds to a Write what a field that replaces another needs. named are the
// plain columns that the caller sets.
func (g *group) writeOld(w *Write, f *fieldSpec, h *head, compared bool, named []string) error {
	if f.oldField == nil {
		return nil
	}
	value, isPlain := g.oldColumnValue(f)
	if isPlain && h.old != oldGiven {
		if h.was == nil && slices.Contains(named, f.oldColumn) {
			return g.failed("write", f.column, h.whyUnknown())
		}
		w.Omit = append(w.Omit, f.oldColumn)
	}
	switch {
	case h.old == oldGiven && isPlain:
		w.Set = append(w.Set, Assignment{Column: f.oldColumn, Value: value})
		if h.sent != nil && h.was != nil && !slices.ContainsFunc(*h.was, isInexact) {
			w.Where = append(w.Where, Assignment{Column: f.oldColumn, Value: (*h.was)[0], Or: (*h.was)[1:]})
		}
	case h.old == oldTaken && h.changed():
		if !compared {
			w.Where = append(w.Where, h.unchanged(f.column))
		}
		if !isPlain || !isInexact(value) {
			w.Where = append(w.Where, Assignment{Column: f.oldColumn, Value: value})
		}
	}
	return nil
}

// whyUnknown says why the old column cannot be written: the new one is not known, so
// it would be left with another value.
func (h *head) whyUnknown() error {
	if h.read {
		return kmsencrypted.ErrNotOpened
	}
	return kmsencrypted.ErrNotLoaded
}

// sentOld remembers what was sent to the old column.
func (g *group) sentOld(f *fieldSpec, h *head) {
	if h.old != oldGiven || h.was == nil {
		return
	}
	value, _ := g.oldColumnValue(f)
	if !slices.ContainsFunc(*h.was, func(v driver.Value) bool { return sameColumnValue(v, value) }) {
		was := append(slices.Clone(*h.was), value)
		was = was[max(0, len(was)-maxSent):]
		h.was = &was
	}
}

// savedOld remembers what was written to the old column for good.
func (g *group) savedOld(f *fieldSpec, h *head) {
	if h.state == unset || h.state == plain {
		return
	}
	if value, isPlain := g.oldColumnValue(f); isPlain && h.old == oldGiven {
		h.was = &[]driver.Value{value}
	}
	h.old = oldAlone
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
	if b, ok := value.([]byte); ok {
		if b == nil {
			return nil, true
		}
		return bytes.Clone(b), true // the program may change it in place
	}
	return value, true
}

func sameColumnValue(a, b driver.Value) bool {
	return sameValue(reflect.ValueOf(a), reflect.ValueOf(b))
}

// isInexact reports whether a database may not recognise a value that it returned:
// the precision of its times and floats differs from Go's.
func isInexact(v driver.Value) bool {
	switch v.(type) {
	case nil, string, []byte, int64, bool:
		return false
	}
	return true
}
