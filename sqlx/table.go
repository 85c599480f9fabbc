package kmssqlx

import (
	"context"
	"database/sql"
	"reflect"

	"github.com/jmoiron/sqlx/reflectx"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

var library = records.Library{Name: "sqlx", NoRows: sql.ErrNoRows}

// tableKey is what a table depends on in addition to its model.
type tableKey struct {
	dialect field.Dialect
	mapper  *reflectx.Mapper
}

// tableFor checks the arguments of an operation and returns the model's table.
func tableFor[R any](ctx context.Context, op string, db Ext, m *field.Model[R], rows ...*R) (*records.Table[R], error) {
	if err := records.Usable(op, db, m, rows...); err != nil {
		return nil, err
	}
	t, err := table(ctx, db, m)
	return t, records.Failed(op, m.Table(), err)
}

func table[R any](ctx context.Context, db Ext, m *field.Model[R]) (*records.Table[R], error) {
	d, err := dialect(ctx, db)
	if err != nil {
		return nil, err
	}
	mapper, shared := mapperOf(db)
	create := func() (any, error) { return records.NewTable(library, d, fieldsOf[R](db), m) }
	if !shared {
		t, err := create()
		return t.(*records.Table[R]), err
	}
	t, err := m.Adapter().Memo(tableKey{d, mapper}, create)
	if err != nil {
		return nil, err
	}
	return t.(*records.Table[R]), nil
}

// fieldsOf returns the fields of a struct that sqlx takes for columns.
func fieldsOf[R any](db Ext) (fields []records.Field) {
	mapper, _ := mapperOf(db)
	all := mapper.TypeMap(reflect.TypeFor[R]())
	for _, f := range all.Index {
		// Skip the parts of a struct that is a column, and names of other fields.
		if f.Path != f.Name || all.Names[f.Name] != f {
			continue
		}
		_, readOnly := f.Options["readonly"]
		_, returned := f.Options["returned"]
		fields = append(fields, records.Field{Column: f.Name, Index: f.Index, Struct: f.Field, ReadOnly: readOnly, Returned: returned})
	}
	return fields
}
