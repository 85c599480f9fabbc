package kmsbun

import (
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
	"github.com/uptrace/bun/schema"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

// Use makes a database seal and open the records of models, each a [*field.Model]. It
// leaves other tables to bun. Call it once, before the database is used: it adds a
// query hook, and hooks to bun's tables, which all handles with the same dialect share.
//
// It returns [kmsencrypted.ErrConfig] with all differences between the models and what
// bun knows about their structs, for a nil database or model, and for a release of bun
// that it does not fit.
func Use(db *bun.DB, models ...field.AnyModel) error {
	if !isOpen(db) {
		return configError("the *bun.DB is nil or was not made by bun.NewDB")
	}
	if len(models) == 0 {
		return configError("there are no models: kmsbun.Use(db, customers, …)")
	}
	d, err := dialectOf(db)
	if err != nil {
		return err
	}
	p := &plugin{dialect: d, tables: make(map[reflect.Type]*table)}
	mistakes := []error{fits(db)}
	for _, m := range models {
		t, err := p.newTable(db, m)
		mistakes = append(mistakes, err)
		if err == nil && p.tables[t.rowType] != nil {
			mistakes = append(mistakes, configError("%v: there are two models of it", t.rowType))
		}
		if err == nil {
			p.tables[t.rowType] = t
		}
	}
	if err := errors.Join(mistakes...); err != nil {
		return err
	}
	for _, t := range p.tables {
		t.bun.ZeroIface = &hooks{p, t, t.bun.ZeroIface}
	}
	db.AddQueryHook(guard{p})
	return nil
}

// UseRelations makes a database open the encrypted records that are read as relations
// of structs without encrypted columns. parents are nil pointers to these structs:
//
//	err := kmsbun.UseRelations(db, (*Order)(nil)) // has a Customer
//
// It returns [kmsencrypted.ErrConfig] before [Use], and for other values.
func UseRelations(db *bun.DB, parents ...any) error {
	if !isOpen(db) {
		return configError("the *bun.DB is nil or was not made by bun.NewDB")
	}
	for _, parent := range parents {
		typ := reflect.TypeOf(parent)
		if typ == nil || typ.Kind() != reflect.Pointer || typ.Elem().Kind() != reflect.Struct {
			return configError("%T is no pointer to a struct", parent)
		}
		table := db.Table(typ)
		p := pluginOf(table, nil)
		if p == nil {
			return configError("%v has no relation to a model, or kmsbun.Use was not called", typ)
		}
		if _, ok := table.ZeroIface.(*hooks); !ok {
			table.ZeroIface = &hooks{p, nil, table.ZeroIface}
		}
	}
	return nil
}

// isOpen reports whether a database was made by bun.NewDB. A zero one panics in some
// releases of bun.
func isOpen(db *bun.DB) (open bool) {
	defer func() { _ = recover() }()
	return db != nil && !missing.Is(db.Dialect())
}

// pluginOf finds the plugin of the tables that a table has relations to.
func pluginOf(t *schema.Table, seen []*schema.Table) *plugin {
	if h, ok := t.ZeroIface.(*hooks); ok {
		return h.plugin
	}
	if slices.Contains(seen, t) {
		return nil
	}
	for _, r := range t.Relations {
		if p := pluginOf(r.JoinTable, append(seen, t)); p != nil {
			return p
		}
	}
	return nil
}

// plugin is what a database knows of the models. It is immutable.
type plugin struct {
	dialect field.Dialect
	tables  map[reflect.Type]*table
}

// table is one model and bun's view of its struct.
type table struct {
	*plugin
	model    field.Adapter[any]
	records  *records.Table[any]
	rowType  reflect.Type
	bun      *schema.Table
	name     string
	managed  []string // the model's columns
	fields   []string // of them those with values, not keys and indexes
	context  []string // plain columns of the encryption context
	replaced []string // plain columns that encrypted ones replace
	ids      []string
}

var library = records.Library{Name: "bun", NoRows: sql.ErrNoRows}

// newTable compares a model with bun's view of the same struct.
func (p *plugin) newTable(db *bun.DB, of field.AnyModel) (*table, error) {
	if missing.Is(of) {
		return nil, configError("a model is nil")
	}
	m := of.Dynamic()
	a := m.Adapter()
	if a.RowType() == nil {
		return nil, configError("a model is nil or was not made by field.NewModel")
	}
	t := &table{plugin: p, model: a, rowType: a.RowType(), bun: db.Table(a.RowType()), name: a.Table(), managed: a.Columns(), context: a.ContextColumns(), ids: a.IDColumns()}
	var mistakes []error
	if _, ok := t.bun.ZeroIface.(*hooks); ok {
		return nil, configError("%v: kmsbun.Use was called for it before", t.rowType)
	}
	if t.bun.Name != t.name {
		mistakes = append(mistakes, configError("%v: bun's table is %q, the model's %q: embed bun.BaseModel `bun:\"table:%s\"`", t.rowType, t.bun.Name, t.name, t.name))
	}
	for _, column := range t.managed {
		f := t.bun.FieldMap[column]
		switch {
		case f == nil || !isOurs(f.StructField.Type):
			mistakes = append(mistakes, configError("%v: bun has no encrypted column %q: `bun:\"%s\"`", t.rowType, column, column))
		case f.NullZero || f.SQLDefault != "":
			mistakes = append(mistakes, configError("%v: the encrypted column %q can have neither nullzero nor default", t.rowType, column))
		case f.StructField.Type != keyType && f.StructField.Type != indexType && f.StructField.Type != partType:
			t.fields = append(t.fields, column)
		}
	}
	for _, column := range a.PlainColumns() {
		if a.ReplacedBy(column) != "" {
			t.replaced = append(t.replaced, column)
		}
	}
	var keys []string
	for _, pk := range t.bun.PKs {
		keys = append(keys, pk.Name)
	}
	if !slices.Equal(slices.Sorted(slices.Values(keys)), slices.Sorted(slices.Values(t.ids))) {
		mistakes = append(mistakes, configError("%v: bun's primary key is %q, the model's %q: `bun:\",pk\"`", t.rowType, keys, t.ids))
	}
	if len(mistakes) == 0 {
		var fields []records.Field
		for _, f := range t.bun.Fields {
			fields = append(fields, records.Field{Column: f.Name, Index: f.Index, Struct: f.StructField})
		}
		var err error
		t.records, err = records.NewTable(library, p.dialect, fields, m)
		mistakes = append(mistakes, err)
	}
	return t, errors.Join(mistakes...)
}

var (
	keyType, partType, indexType = reflect.TypeFor[field.Key](), reflect.TypeFor[field.Part](), reflect.TypeFor[field.Index]()
	columnType                   = reflect.TypeFor[blindindex.Column]()
)

// isOurs reports whether a type is a column of package field or of blindindex.
func isOurs(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath() == keyType.PkgPath() || t.PkgPath() == columnType.PkgPath()
}

func dialectOf(db *bun.DB) (field.Dialect, error) {
	switch name := db.Dialect().Name(); name {
	case dialect.PG:
		return field.Postgres, nil
	case dialect.MySQL:
		return field.MySQL, nil
	case dialect.SQLite:
		return field.SQLite, nil
	default:
		return "", configError("%v is none of PostgreSQL, MySQL and SQLite", name)
	}
}

// rows lists the records in a model of bun: a struct, or a slice of structs or of
// pointers.
func (t *table) rows(m bun.Model) (list []*any) {
	if m == nil {
		return nil
	}
	var add func(v reflect.Value)
	add = func(v reflect.Value) {
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
			v = v.Elem()
		}
		switch {
		case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
			for i := range v.Len() {
				add(v.Index(i))
			}
		case v.IsValid() && v.Type() == t.rowType && v.CanAddr():
			row := v.Addr().Interface()
			list = append(list, &row)
		}
	}
	add(reflect.ValueOf(m.Value()))
	return list
}

// structOf is the struct of a row.
func structOf(row *any) reflect.Value { return reflect.ValueOf(*row).Elem() }

// refused returns the error of a query that is not made.
func (t *table) refused(op, column string, err error, why string) error {
	return &kmsencrypted.Error{Op: op, Record: t.name, Column: column, Err: err, Cause: errors.New(why)}
}

func configError(format string, args ...any) error {
	return fmt.Errorf("kmsbun: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}

// firstOf returns the first of some columns that is in a list.
func firstOf(columns, list []string) string {
	for _, c := range columns {
		if slices.Contains(list, c) {
			return c
		}
	}
	return ""
}
