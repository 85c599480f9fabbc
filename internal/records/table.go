package records

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/spelling"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Table is a model's table, with its struct as a library sees it. It is immutable
// and safe for concurrent use.
type Table[R any] struct {
	sqldialect.Table
	library Library
	model   field.Adapter[R]
	columns []column // that may be written, in the order of the struct
	ids     []column // the primary key, also in columns
	// returned are plain columns that only the database fills.
	returned []column
	// insertRow inserts all columns of one row: the most frequent statement.
	insertRow string
	// bound are the columns that a row must have as the record has them for it to open.
	bound []column
	// spells: the database may have another spelling of them than Go.
	spells bool
}

// column is a field of the struct that may be written.
type column struct {
	Field
	kind kind
}

type kind uint8

const (
	plain     kind = iota // the application's own
	id                    // of the primary key
	encrypted             // what the model writes
	key                   // a key column, which the model writes too
)

func (c column) is(kinds ...kind) bool { return slices.Contains(kinds, c.kind) }

// NewTable compares a model with the fields that a library finds in its struct.
func NewTable[R any](l Library, d sqldialect.Dialect, fields []Field, m *field.Model[R]) (*Table[R], error) {
	t := &Table[R]{
		Table:   sqldialect.Table{Dialect: d, Name: m.Table(), IDs: m.Adapter().IDColumns()},
		library: l,
		model:   m.Adapter(),
		columns: make([]column, 0, len(fields)),
	}
	t.spells = spelling.Varies(t.model)
	managed, bound := m.Adapter().Columns(), m.Adapter().BoundColumns()
	for _, f := range fields {
		c := column{Field: f}
		if slices.Contains(bound, f.Column) {
			t.bound = append(t.bound, c)
			t.spells = t.spells || f.ReadOnly || f.Returned && !slices.Contains(t.IDs, f.Column) // only the database knows it
		}
		switch {
		case slices.Contains(t.IDs, f.Column):
			c.kind = id
			t.ids = append(t.ids, c)
		case f.Struct.Type == reflect.TypeFor[field.Key]():
			c.kind = key
		case slices.Contains(managed, f.Column):
			c.kind = encrypted
		case f.Returned:
			t.returned = append(t.returned, c)
			continue
		case f.ReadOnly:
			continue
		}
		t.columns = append(t.columns, c)
	}
	t.insertRow = t.Insert(names(t.columns), 1)
	return t, t.check(managed)
}

// check returns an error for columns of the model that the library has under another name.
func (t *Table[R]) check(managed []string) error {
	if len(t.IDs) == 0 {
		return fmt.Errorf("kms%s: %w: the model of %s has no primary key: tag it `kms:\"id\"`", t.library.Name, kmsencrypted.ErrConfig, t.Name)
	}
	for _, name := range slices.Concat(t.IDs, managed) {
		if !slices.ContainsFunc(t.columns, func(c column) bool { return c.Column == name }) {
			return t.unknownColumn(name)
		}
	}
	for _, name := range t.model.BoundColumns() {
		if t.spells && !slices.ContainsFunc(t.bound, func(c column) bool { return c.Column == name }) {
			return t.unknownColumn(name)
		}
	}
	return nil
}

// structOf returns the struct of a row. A row of a dynamic model holds a pointer to it.
func structOf[R any](row *R) reflect.Value {
	v := reflect.ValueOf(row).Elem()
	if v.Kind() == reflect.Interface {
		v = v.Elem().Elem()
	}
	return v
}

func (t *Table[R]) unknownColumn(name string) error {
	return fmt.Errorf("kms%[1]s: %[2]w: %[1]s does not know column %[3]s of %[4]s: check its struct tag", t.library.Name, kmsencrypted.ErrConfig, name, t.Name)
}

// pick returns the columns of some kinds.
func (t *Table[R]) pick(kinds ...kind) (picked []column) {
	for _, c := range t.columns {
		if c.is(kinds...) {
			picked = append(picked, c)
		}
	}
	return picked
}

func names(columns []column) []string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = c.Column
	}
	return all
}

// value returns the value to write to the column.
func (c column) value(row reflect.Value) (any, error) {
	v := c.in(row)
	if c.is(encrypted, key) {
		return v.Addr().Interface().(driver.Valuer).Value()
	}
	return v.Interface(), nil
}

// values appends the values of columns of a row.
func (t *Table[R]) values(args []any, columns []column, row *R) ([]any, error) {
	v := structOf(row)
	for _, c := range columns {
		value, err := c.value(v)
		if err != nil {
			return nil, &kmsencrypted.Error{Op: "write", Record: t.record(row), Column: c.Column, Err: err}
		}
		args = append(args, value)
	}
	return args, nil
}

// id returns the primary key of a row.
func (t *Table[R]) id(row *R) []any {
	v := structOf(row)
	id := make([]any, len(t.ids))
	for i, c := range t.ids {
		id[i] = c.in(v).Interface()
	}
	return id
}

// hasID reports whether the primary key is known. As in the model, a zero value is
// unknown, except for a number in a composite key.
func (t *Table[R]) hasID(row *R) bool {
	v := structOf(row)
	return !slices.ContainsFunc(t.ids, func(c column) bool {
		value := c.in(v)
		return value.IsZero() && !(len(t.ids) > 1 && (value.CanInt() || value.CanUint()))
	})
}

// record returns the name of a row in errors: "customers id=7".
func (t *Table[R]) record(row *R) string {
	var b strings.Builder
	b.WriteString(t.Name)
	for i, value := range t.id(row) {
		fmt.Fprintf(&b, " %s=%v", t.ids[i].Column, value)
	}
	return b.String()
}
