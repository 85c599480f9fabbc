package kment

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"
	"slices"
	"strings"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/internal/sqlscan"
)

// seen is a statement about tables of the driver.
type seen struct {
	*sqlscan.Statement
	tables []*table
}

const (
	useLookup  = "an encrypted column cannot be compared with a plaintext: declare a kment.Index, and use Where(kment.Lookup(…))"
	useBuilder = "an encrypted column is written by Create, or by UpdateOne of an entity that was read"
	useOne     = "encryption contexts are made of it: query the entities, and use UpdateOne for each"
	noUpsert   = "an upsert would overwrite a data key or lose it: look for the entity first and update it, or create it and handle the ConstraintError"
)

// look refuses a statement that would write or search a plaintext, or lose a data key.
// It returns nil for a statement about other tables.
func (d *Driver) look(s statement, all []work) (*seen, error) {
	for _, arg := range s.args {
		if r, ok := arg.(*refusal); ok {
			return nil, r.err
		}
	}
	text := strings.ToLower(s.query)
	if !slices.ContainsFunc(d.tables, func(t *table) bool { return strings.Contains(text, plainName(t.name)) }) && len(all) == 0 {
		return nil, nil
	}
	found := &seen{Statement: sqlscan.Parse(s.query, d.syntax())}
	for _, t := range d.tables {
		if found.Mentioned[plainName(t.name)] {
			found.tables = append(found.tables, t)
		}
	}
	if len(found.tables) == 0 {
		return nil, nil
	}
	if err := found.refuse(s, all); err != nil {
		return nil, err
	}
	return found, nil
}

func (d *Driver) syntax() sqlscan.Options {
	return sqlscan.Options{Numbered: d.kind == sqldialect.Postgres, MySQL: d.kind == sqldialect.MySQL}
}

func plainName(table string) string {
	return strings.ToLower(table[strings.LastIndex(table, ".")+1:])
}

func (f *seen) refuse(s statement, all []work) error {
	for _, c := range f.Compared {
		for _, n := range c.Names {
			t, column := f.columnOf(n)
			if t == nil || !slices.Contains(t.secret, column) {
				continue
			}
			for _, i := range c.Placeholders {
				if i < 0 || i >= len(s.args) || !isStored(s.args[i]) {
					return t.refused("query", column, kmsencrypted.ErrUnsealed, useLookup)
				}
			}
		}
	}
	for _, arg := range s.args {
		if set, ok := arg.(interface{ IsSet() bool }); ok && isField(reflect.TypeOf(arg)) && set.IsSet() {
			return f.tables[0].refused("query", "", kmsencrypted.ErrUnsealed, useLookup)
		}
	}
	return f.refuseWrite(all)
}

// refuseWrite refuses columns that no work writes.
func (f *seen) refuseWrite(all []work) error {
	for _, name := range f.Written {
		t, column := f.columnOf(sqlscan.Name{Column: name})
		if t == nil || slices.ContainsFunc(all, func(w work) bool { return w.on() == t && w.writes(column) }) {
			continue
		}
		switch isContext := slices.Contains(t.context, column); {
		case slices.Contains(t.managed, column):
			return t.refused("write", column, kmsencrypted.ErrUnsealed, useBuilder)
		case isContext && (f.Upserts || !f.Inserts), slices.Contains(t.bound, column) && !f.Inserts:
			return t.refused("write", column, errors.ErrUnsupported, useOne)
		}
	}
	if len(all) > 0 && f.Upserts && f.Inserts {
		return all[0].on().refused("write", "", errors.ErrUnsupported, noUpsert)
	}
	return nil
}

// columnOf finds the column of a table that a name in the statement means.
func (f *seen) columnOf(n sqlscan.Name) (*table, string) {
	named, isTable := f.Tables[strings.ToLower(n.Table)]
	for _, t := range f.tables {
		if isTable && named != plainName(t.name) {
			continue
		}
		for column := range t.fields {
			if strings.EqualFold(column, n.Column) {
				return t, column
			}
		}
	}
	return nil, ""
}

var fieldType = reflect.TypeFor[field.Key]()

// isField reports whether a type is one of package field, or a pointer to one.
func isField(t reflect.Type) bool {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t != nil && t.PkgPath() == fieldType.PkgPath()
}

// isStored reports whether an encrypted column may be compared with a value: with NULL,
// a field that was read or sealed, an index, or what its work provides.
func isStored(v any) bool {
	switch v := v.(type) {
	case nil, *value:
		return true
	case interface{ IsSet() bool }:
		return isField(reflect.TypeOf(v)) && !v.IsSet()
	case driver.Valuer:
		if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && r.IsNil() {
			return true
		}
		if now, err := v.Value(); err == nil && now == nil {
			return true
		}
	}
	return isField(reflect.TypeOf(v))
}

// guarded is the result of a query. It reads encrypted columns into fields of package
// field only, where nobody takes a ciphertext for a value.
type guarded struct {
	entsql.ColumnScanner
	refusals []error // by column
}

func (d *Driver) guarded(rows entsql.ColumnScanner, found *seen) entsql.ColumnScanner {
	columns, err := rows.Columns()
	if err != nil {
		return rows // reading it meets the error too
	}
	g := &guarded{rows, make([]error, len(columns))}
	for i, name := range columns {
		n := sqlscan.Name{Column: name}
		if of := found.Aliases[strings.ToLower(name)]; len(of) > 0 { // such as that of max(email)
			n = of[len(of)-1]
		}
		if t, column := found.columnOf(n); t != nil && slices.Contains(t.secret, column) {
			g.refusals[i] = t.refused("query", column, kmsencrypted.ErrNotOpened, "it is a ciphertext here: query the entities, or scan it into the field's own type")
		}
	}
	return g
}

func (g *guarded) Scan(dest ...any) error {
	for i, d := range dest {
		if i >= len(g.refusals) || g.refusals[i] == nil {
			continue
		}
		if n, ok := d.(*entsql.NullScanner); ok {
			d = n.S
		}
		if !isField(reflect.TypeOf(d)) && !isNullOf(d) {
			return g.refusals[i]
		}
	}
	return g.ColumnScanner.Scan(dest...)
}

// isNullOf reports whether a destination is an sql.Null of a field.
func isNullOf(dest any) bool {
	t := reflect.TypeOf(dest)
	if t == nil || t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return false
	}
	f, ok := t.Elem().FieldByName("V")
	return ok && t.Elem().PkgPath() == reflect.TypeFor[sql.Null[int]]().PkgPath() && isField(f.Type)
}
