package field

import (
	"bytes"
	"reflect"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// A row opens only if it has what the record was sealed for: its primary key, the
// columns that its encryption context is made of, and the plain columns that are
// Lockbox's associated data. A database may store something else than it was given.

// BoundColumns returns the columns whose values a row must have for its record to
// open: the primary key, the columns tagged context, and the plain ones that the tag
// ad= names.
func (a Adapter[R]) BoundColumns() []string { return columnsOf(a.inner().spec().bound) }

// BoundValues returns the values of [Adapter.BoundColumns] in a record, as arguments of
// a statement.
func (a Adapter[R]) BoundValues(row *R) []any { return a.inner().values(row, a.inner().spec().bound) }

func columnsOf(fields []*idSpec) (columns []string) {
	for _, f := range fields {
		columns = append(columns, f.column)
	}
	return columns
}

// values returns what a record has in some of its plain columns.
func (c *core) values(row any, fields []*idSpec) []any {
	if c.lacks(row) {
		return nil
	}
	r := c.record(row)
	values := make([]any, len(fields))
	for i, f := range fields {
		values[i] = r.at(f.index).Interface()
	}
	return values
}

// OpensAs reports whether a sealed record would open if its row had in
// [Adapter.BoundColumns] what another record has: because both have the same, or
// because nothing depends on what differs. It makes no call. Of told it uses these
// columns only.
func (a Adapter[R]) OpensAs(row, told *R) bool { return a.inner().opensAs(row, told) }

func (c *core) opensAs(row, told any) bool {
	if c.lacks(row) || c.lacks(told) {
		return false
	}
	r, other := c.record(row), c.record(told)
	if r.hasSameBound(other) {
		return true
	}
	copied := r.withBound(other)
	for _, k := range r.schema.keys {
		if !r.opensKeyAs(copied, k) {
			return false
		}
	}
	return true
}

func (r *record) hasSameBound(other record) bool {
	return !slices.ContainsFunc(r.schema.bound, func(f *idSpec) bool {
		return !reflect.DeepEqual(plainValue(r.at(f.index)), plainValue(other.at(f.index)))
	})
}

// withBound returns a copy of a record with the bound columns of another.
func (r record) withBound(other record) record {
	r.v = r.schema.copyOf(r.v)
	r.row = r.v.Addr().Interface()
	for _, f := range r.schema.bound {
		r.at(f.index).Set(other.at(f.index))
	}
	return r
}

// opensKeyAs reports whether a copy of the record with other bound columns has its key
// in the same place, and the same associated data for the columns under it.
func (r *record) opensKeyAs(copied record, k *keySpec) bool {
	isRuby := k.isMaster
	if !k.isMaster {
		h := &r.key(k).h
		if !h.ciphertext() {
			return true // nothing is sealed
		}
		version := kmsencrypted.ColumnVersion(h.stored.text)
		recipe, err := r.box.Version(version)
		if err != nil {
			return false
		}
		isRuby = recipe.Format == kmsencrypted.Ruby
		is, err := r.box.Place(version, r.bindingIn(k, isRuby))
		was, other := r.box.Place(version, copied.bindingIn(k, isRuby))
		if err != nil || other != nil || is != was {
			return false
		}
	}
	return !isRuby || !slices.ContainsFunc(k.fields, func(f *fieldSpec) bool {
		is, err := r.associated(f)
		was, other := copied.associated(f)
		h := r.field(f).head()
		return h.ciphertext() && !r.isBlank(k, f, h.stored) && (err != nil || other != nil || !bytes.Equal(is, was))
	})
}

// bindingIn is binding. In the Ruby format the primary key counts only in the context.
func (r record) bindingIn(k *keySpec, isRuby bool) kmsencrypted.Binding {
	b := r.binding(k)
	if isRuby {
		b.ID = nil
	}
	return b
}

// findBound lists the bound columns.
func (b *builder) findBound() {
	b.bound = slices.Concat(b.ids, b.companions)
	for _, f := range b.fields {
		for _, p := range b.plain {
			known := slices.ContainsFunc(b.bound, func(other *idSpec) bool { return other.column == p.column })
			if slices.Equal(p.index, f.associated) && !known {
				b.bound = append(b.bound, p)
			}
		}
	}
}
