package kmsbun

import (
	"context"
	"reflect"
	"slices"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

func isStruct(v any) bool {
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.Elem().Kind() == reflect.Struct
}

// beforeSelect refuses to read ciphertexts into something else than records, and
// empties the encrypted fields of records that are read again: a column that is not
// selected must not keep the value of an earlier row.
func (t *table) beforeSelect(q *bun.SelectQuery) error {
	m := q.GetModel()
	if tm, ok := m.(bun.TableModel); ok && tm.Relation() != nil {
		return nil
	}
	for _, l := range lookupsOf(q) {
		if l.Err() != nil {
			return l.Err()
		}
	}
	columns, plain := named(q, t.bun)
	if reflect.ValueOf(m.Value()).IsNil() {
		column := firstOf(t.fields, columns)
		if *columnsOf(q) == nil {
			column = t.fields[0]
		}
		if column == "" {
			return nil
		}
		return t.refused("select", column, kmsencrypted.ErrNotOpened, "it is opened in the model of a query: Model(&records), and Scan without another destination")
	}
	if plain && columns != nil {
		if err := t.model.CheckRead(columns); err != nil {
			return err
		}
	}
	for _, row := range t.capacity(m) {
		for _, column := range slices.Concat(t.fields, t.model.KeyColumns()) {
			if f := t.bun.FieldMap[column]; f != nil && !isConditionOf(q, f) {
				if v, err := row.FieldByIndexErr(f.Index); err == nil {
					v.SetZero()
				}
			}
		}
	}
	return nil
}

// capacity lists the structs that bun may read into: also those of a slice that are
// beyond its length.
func (t *table) capacity(m bun.Model) (list []reflect.Value) {
	v := reflect.ValueOf(m.Value()).Elem()
	if v.Kind() != reflect.Slice {
		return []reflect.Value{v}
	}
	v = v.Slice3(0, v.Cap(), v.Cap())
	for i := range v.Len() {
		e := v.Index(i)
		if e.Kind() == reflect.Pointer || e.Kind() == reflect.Interface {
			e = e.Elem()
		}
		if e.IsValid() && e.Type() == t.rowType && e.CanSet() {
			list = append(list, e)
		}
	}
	return list
}

// isConditionOf reports whether WherePK takes a condition from a field of the model.
func isConditionOf(q *bun.SelectQuery, f *schema.Field) bool {
	return slices.ContainsFunc(*whereFieldsOf(q), func(w *schema.Field) bool { return w.Name == f.Name })
}

// open opens what a query read: its records and those in their relations, of each
// model together.
func (h *hooks) open(ctx context.Context, q *bun.SelectQuery) error {
	if m, ok := q.GetModel().(bun.TableModel); !ok || m.Relation() != nil {
		return nil // the query of a relation: the parent is opened with it
	}
	found := make(map[*table][]*any)
	h.collect(reflect.ValueOf(q.GetModel().Value()), q.DB(), found, make(map[any]bool))
	for t, rows := range found {
		if err := t.model.Open(ctx, rows...); err != nil {
			return err
		}
	}
	if h.table == nil {
		return nil
	}
	return h.table.keepHits(q)
}

// collect finds the records in a value and in its relations.
func (p *plugin) collect(v reflect.Value, db *bun.DB, found map[*table][]*any, seen map[any]bool) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			p.collect(v.Index(i), db, found, seen)
		}
		return
	case v.Kind() != reflect.Struct || !v.CanAddr():
		return
	}
	row := v.Addr().Interface()
	if seen[row] {
		return
	}
	seen[row] = true
	if t := p.tables[v.Type()]; t != nil && t.isRead(v) {
		found[t] = append(found[t], &row)
	}
	for _, r := range db.Table(v.Type()).Relations {
		if f, err := v.FieldByIndexErr(r.Field.Index); err == nil {
			p.collect(f, db, found, seen)
		}
	}
}

// isRead reports whether anything encrypted was read into a struct.
func (t *table) isRead(v reflect.Value) bool {
	return slices.ContainsFunc(t.managed, func(column string) bool {
		f, err := v.FieldByIndexErr(t.bun.FieldMap[column].Index)
		if err != nil {
			return false
		}
		loaded, ok := f.Addr().Interface().(interface{ IsLoaded() bool })
		return ok && loaded.IsLoaded()
	})
}

// keepHits removes records that a look-up found by its index, but whose values are
// others.
func (t *table) keepHits(q *bun.SelectQuery) error {
	lookups := lookupsOf(q)
	if len(lookups) == 0 {
		return nil
	}
	v := reflect.ValueOf(q.GetModel().Value()).Elem()
	if v.Kind() == reflect.Struct {
		hit, err := t.matches(lookups, v)
		if err == nil && !hit {
			err = t.refused("select", "", kmsencrypted.ErrNotOpened, "the index found another record first: read into a slice, from which those are removed")
		}
		return err
	}
	kept := reflect.MakeSlice(v.Type(), 0, v.Len())
	for i := range v.Len() {
		e := v.Index(i)
		s := e
		for s.Kind() == reflect.Pointer || s.Kind() == reflect.Interface {
			s = s.Elem()
		}
		hit, err := t.matches(lookups, s)
		if err != nil {
			return err
		}
		if hit {
			kept = reflect.Append(kept, e)
		}
	}
	v.Set(kept)
	return nil
}

func (t *table) matches(lookups []field.Lookup, v reflect.Value) (bool, error) {
	for _, l := range lookups {
		hit, err := l.Matches(v.Addr().Interface())
		if hit || err != nil {
			return hit, err
		}
	}
	return false, nil
}
