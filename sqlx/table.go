package kmssqlx

import (
	"context"
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx/reflectx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// table is a model's table, with its struct as sqlx sees it.
type table[R any] struct {
	sqldialect.Table
	model   field.Adapter[R]
	columns []column // that may be written, in the order of the struct
	ids     []column // the primary key, also in columns
	// insertRow inserts all columns of one row: the most frequent statement.
	insertRow string
	// spellsIDs: the database may have another spelling of an id than Go.
	spellsIDs bool
}

// tableKey is what a table depends on in addition to its model.
type tableKey struct {
	dialect field.Dialect
	mapper  *reflectx.Mapper
}

// column is a field of the struct with a column.
type column struct {
	name  string
	kind  kind
	field *reflectx.FieldInfo
}

type kind uint8

const (
	plain     kind = iota // the application's own
	id                    // of the primary key
	encrypted             // what the model writes
	key                   // a key column, which the model writes too
)

func (c column) is(kinds ...kind) bool { return slices.Contains(kinds, c.kind) }

// isReturned reports whether the id comes only from the INSERT.
func (c column) isReturned() bool {
	_, returned := c.field.Options["returned"]
	return returned
}

func newTable[R any](ctx context.Context, db Ext, m *field.Model[R]) (*table[R], error) {
	d, err := dialect(ctx, db)
	if err != nil {
		return nil, err
	}
	mapper, shared := mapperOf(db)
	if !shared {
		return makeTable(d, mapper, m)
	}
	t, err := m.Adapter().Memo(tableKey{d, mapper}, func() (any, error) { return makeTable(d, mapper, m) })
	if err != nil {
		return nil, err
	}
	return t.(*table[R]), nil
}

func makeTable[R any](d field.Dialect, mapper *reflectx.Mapper, m *field.Model[R]) (*table[R], error) {
	t := &table[R]{Table: sqldialect.Table{Dialect: d, Name: m.Table(), IDs: m.Adapter().IDColumns()}, model: m.Adapter()}
	managed := m.Adapter().Columns()
	fields := mapper.TypeMap(reflect.TypeFor[R]())
	t.columns = make([]column, 0, len(fields.Names))
	for _, f := range fields.Index {
		// Skip the parts of a struct that is a column, and names of other fields.
		if f.Path != f.Name || fields.Names[f.Name] != f {
			continue
		}
		c := column{name: f.Name, field: f}
		switch _, readonly := f.Options["readonly"]; {
		case slices.Contains(t.IDs, c.name):
			c.kind = id
			t.ids = append(t.ids, c)
			value := reflect.Zero(f.Field.Type)
			t.spellsIDs = t.spellsIDs || !value.CanInt() && !value.CanUint()
		case f.Field.Type == reflect.TypeFor[field.Key]():
			c.kind = key
		case slices.Contains(managed, c.name):
			c.kind = encrypted
		case readonly:
			continue
		}
		t.columns = append(t.columns, c)
	}
	t.insertRow = t.Insert(names(t.columns), 1)
	return t, t.check(managed)
}

// check returns an error for columns of the model that sqlx has under another name.
func (t *table[R]) check(managed []string) error {
	if len(t.IDs) == 0 {
		return fmt.Errorf("kmssqlx: %w: the model of %s has no primary key: tag it `kms:\"id\"`", kmsencrypted.ErrConfig, t.Name)
	}
	for _, name := range slices.Concat(t.IDs, managed) {
		if !slices.ContainsFunc(t.columns, func(c column) bool { return c.name == name }) {
			return fmt.Errorf("kmssqlx: %w: sqlx does not know column %s of %s: check its struct tag", kmsencrypted.ErrConfig, name, t.Name)
		}
	}
	return nil
}

// pick returns the columns of some kinds.
func (t *table[R]) pick(kinds ...kind) (picked []column) {
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
		all[i] = c.name
	}
	return all
}

// pointer returns a pointer to the column in a row.
func (c column) pointer(row reflect.Value) any {
	return reflectx.FieldByIndexes(row, c.field.Index).Addr().Interface()
}

// option returns the value of an option in the field's kms tag, or "".
func (c column) option(name string) string {
	for word := range strings.SplitSeq(c.field.Field.Tag.Get("kms"), ",") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(word), name+"="); ok {
			return value
		}
	}
	return ""
}

// value returns the value to write to the column.
func (c column) value(row reflect.Value) (any, error) {
	v, err := row.FieldByIndexErr(c.field.Index)
	if err != nil {
		return nil, fmt.Errorf("%w: column %s: %w", kmsencrypted.ErrConfig, c.name, err)
	}
	if c.is(encrypted, key) {
		return v.Addr().Interface().(driver.Valuer).Value()
	}
	return v.Interface(), nil
}

// values appends the values of columns of a row.
func (t *table[R]) values(args []any, columns []column, row *R) ([]any, error) {
	v := reflect.ValueOf(row).Elem()
	for _, c := range columns {
		value, err := c.value(v)
		if err != nil {
			return nil, &kmsencrypted.Error{Op: "write", Record: t.record(row), Column: c.name, Err: err}
		}
		args = append(args, value)
	}
	return args, nil
}

// id returns the primary key of a row.
func (t *table[R]) id(row *R) []any {
	v := reflect.ValueOf(row).Elem()
	id := make([]any, len(t.ids))
	for i, c := range t.ids {
		id[i] = v.FieldByIndex(c.field.Index).Interface()
	}
	return id
}

// hasID reports whether the primary key is known. As in the model, a zero value is
// unknown, except for a number in a composite key.
func (t *table[R]) hasID(row *R) bool {
	v := reflect.ValueOf(row).Elem()
	return !slices.ContainsFunc(t.ids, func(c column) bool {
		value := v.FieldByIndex(c.field.Index)
		return value.IsZero() && !(len(t.ids) > 1 && (value.CanInt() || value.CanUint()))
	})
}

// record returns the name of a row in errors: "customers id=7".
func (t *table[R]) record(row *R) string {
	var b strings.Builder
	b.WriteString(t.Name)
	for i, value := range t.id(row) {
		fmt.Fprintf(&b, " %s=%v", t.ids[i].name, value)
	}
	return b.String()
}
