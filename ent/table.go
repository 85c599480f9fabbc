package kment

import (
	"errors"
	"reflect"
	"slices"
	"strings"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql/sqlgraph"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

// table is what the driver knows of a model.
type table struct {
	of      field.AnyModel
	row     reflect.Type
	name    string
	fields  map[string][]int // of the entity, by column
	managed []string         // columns of the model
	secret  []string         // those of them that a plaintext could be compared with
	context []string         // plain columns that encryption contexts are made of
	bound   []string         // other plain columns that encrypted ones depend on
	// replaced are those of them that encrypted ones replace, and that are written with
	// them.
	replaced []string
	// opens: a field is bound to another one, and must be open when that changes.
	opens bool
}

// gone is what ent expects of an UPDATE whose row does not exist.
var gone = new(sqlgraph.NotFoundError)

var library = records.Library{Name: "ent", NoRows: gone}

var keyType, partType = reflect.TypeFor[field.Key](), reflect.TypeFor[field.Part]()

func newTable(of field.AnyModel) (*table, error) {
	if of == nil {
		return nil, configError("a model is nil")
	}
	m := of.Dynamic().Adapter()
	if m.RowType() == nil {
		return nil, configError("a model is nil or was not made by field.NewModel")
	}
	t := &table{of: of, row: m.RowType(), name: m.Table(), managed: m.Columns(), context: m.ContextColumns(), fields: make(map[string][]int)}
	var names []string // of Go fields that tags refer to
	for _, f := range fieldsOf(t.row) {
		t.fields[f.Column] = f.Index
		if f.Struct.Type != keyType && f.Struct.Type != partType && slices.Contains(t.managed, f.Column) {
			t.secret = append(t.secret, f.Column)
		}
		for option := range strings.SplitSeq(f.Struct.Tag.Get("kms"), ",") {
			if key, value, _ := strings.Cut(strings.TrimSpace(option), "="); slices.Contains([]string{"of", "ad", "migrating", "migrated"}, key) {
				names = append(names, strings.Split(value, "+")...)
				t.opens = t.opens || key == "ad"
			}
		}
	}
	for _, f := range fieldsOf(t.row) {
		if slices.Contains(names, f.Struct.Name) && !slices.Contains(t.managed, f.Column) && !slices.Contains(t.context, f.Column) {
			t.bound = append(t.bound, f.Column)
		}
	}
	for _, column := range m.PlainColumns() {
		if m.ReplacedBy(column) != "" {
			t.replaced = append(t.replaced, column)
		}
	}
	for _, column := range slices.Concat(m.IDColumns(), t.managed) {
		if t.fields[column] == nil {
			return nil, configError("%v has no field with the tag db:%q: generate it with kmsentc.Extension", t.row, column)
		}
	}
	if len(m.IDColumns()) != 1 {
		return nil, configError("%v: an entity has one id", t.row)
	}
	return t, nil
}

// fieldsOf returns the fields of an entity that have a column.
func fieldsOf(row reflect.Type) (fields []records.Field) {
	for f := range row.Fields() {
		if column, _, _ := strings.Cut(f.Tag.Get("db"), ","); column != "" && column != "-" && f.IsExported() {
			fields = append(fields, records.Field{Column: column, Index: f.Index, Struct: f})
		}
	}
	return fields
}

// typed is a table with its model.
type typed[R any] struct {
	*table
	driver  *Driver
	model   *field.Model[R]
	records *records.Table[R]
}

type tableKey struct{ kind field.Dialect }

// tableFor returns the table of an entity, from the driver of its client.
func tableFor[R any](drv dialect.Driver) (t typed[R], err error) {
	if t.driver, err = unwrap(drv); err != nil {
		return t, err
	}
	if t.table, err = t.driver.tableOf(reflect.TypeFor[R]()); err != nil {
		return t, err
	}
	model, ok := t.of.(*field.Model[R])
	if !ok {
		return t, configError("the model of %v is a %T", t.row, t.of)
	}
	t.model = model
	v, err := model.Adapter().Memo(tableKey{t.driver.kind}, func() (any, error) {
		return records.NewTable(library, t.driver.kind, fieldsOf(t.row), model)
	})
	if err == nil {
		t.records = v.(*records.Table[R])
	}
	return t, err
}

// value returns a field of an entity by its column.
func (t *table) value(entity any, column string) reflect.Value {
	return reflect.ValueOf(entity).Elem().FieldByIndex(t.fields[column])
}

func (t *table) refused(op, column string, err error, why string) error {
	return &kmsencrypted.Error{Op: op, Record: t.name, Column: column, Err: err, Cause: errors.New(why)}
}
