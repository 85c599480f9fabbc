package kmsgorm

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/spelling"
)

// table is one model and GORM's view of its struct.
type table struct {
	model   field.Adapter[any]
	rowType reflect.Type // the struct
	name    string
	columns []string // that the model manages
	ids     []*schema.Field
	fields  map[string]*schema.Field // managed, by column
	// replaced are the plain fields that others replace, by the column of the other.
	replaced map[string]*schema.Field
	context  map[string]*schema.Field // plain, of the encryption context, by column
	// spells: the database may have another spelling of what records are bound to than Go.
	spells bool
	secret []string // encrypted columns and indexes: nothing to compare a plaintext with
	moving []string // key columns whose place depends on more than the primary key
}

var keyType, partType = reflect.TypeFor[field.Key](), reflect.TypeFor[field.Part]()

// newTable compares a model with GORM's view of the same struct.
func newTable(db *gorm.DB, of field.AnyModel) (*table, error) {
	if of == nil {
		return nil, configError("a model is nil")
	}
	m := of.Dynamic().Adapter()
	if m.RowType() == nil {
		return nil, configError("a model is nil or was not made by field.NewModel")
	}
	stmt := &gorm.Statement{DB: db}
	if err := stmt.Parse(reflect.New(m.RowType()).Interface()); err != nil {
		return nil, configError("%v: %w: encrypted columns need a type, such as `gorm:\"type:text\"`", m.RowType(), err)
	}
	t := &table{model: m, rowType: m.RowType(), name: m.Table(), columns: m.Columns(), fields: make(map[string]*schema.Field), replaced: make(map[string]*schema.Field), context: make(map[string]*schema.Field)}
	t.spells = spelling.Varies(t.model)
	t.moving = slices.DeleteFunc(m.KeyColumns(), m.PlacedByID)
	var mistakes []error
	if stmt.Schema.Table != t.name {
		mistakes = append(mistakes, configError("%v: GORM's table is %q, the model's %q", t.rowType, stmt.Schema.Table, t.name))
	}
	for _, column := range t.columns {
		f := stmt.Schema.FieldsByDBName[column]
		if f == nil || !isOurs(f.FieldType) {
			mistakes = append(mistakes, configError("%v: GORM has no encrypted column %q: `gorm:\"column:%s;type:text\"`", t.rowType, column, column))
			continue
		}
		if f.HasDefaultValue || f.Serializer != nil {
			mistakes = append(mistakes, configError("%v: the encrypted column %q can have neither default nor serializer", t.rowType, column))
		}
		t.fields[column] = f
		if f.FieldType != keyType && f.FieldType != partType {
			t.secret = append(t.secret, column)
		}
	}
	for _, name := range m.PlainColumns() {
		column := m.ReplacedBy(name)
		f := stmt.Schema.FieldsByDBName[name]
		switch {
		case column == "":
		case f == nil:
			mistakes = append(mistakes, configError("%v: GORM has no column %q, which %q replaces", t.rowType, name, column))
		default:
			t.replaced[column] = f
		}
	}
	for _, column := range m.ContextColumns() {
		if f := stmt.Schema.FieldsByDBName[column]; f != nil {
			t.context[column] = f
			t.spells = t.spells || f.HasDefaultValue || !f.Creatable // only the database knows it
		}
	}
	for _, column := range m.IDColumns() {
		f := stmt.Schema.FieldsByDBName[column]
		if f == nil || !f.PrimaryKey {
			mistakes = append(mistakes, configError("%v: %q is the model's primary key, but not GORM's", t.rowType, column))
			continue
		}
		t.ids = append(t.ids, f)
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	for column, f := range t.fields {
		t.takePlaintexts(column, f)
	}
	stmt.Schema.UpdateClauses = append(stmt.Schema.UpdateClauses, sealing{t})
	return t, nil
}

// isOurs reports whether a type is a column of package field or of blindindex.
func isOurs(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	path := t.PkgPath()
	return path == keyType.PkgPath() || path == reflect.TypeFor[blindindex.Column]().PkgPath()
}

// managed returns the model's column that a name refers to. The name may be that of
// the struct's field or of the column, in quotes, in capitals, after a table.
func (t *table) managed(name string) string {
	for column := range t.fields {
		if strings.EqualFold(column, plainName(name)) {
			return column
		}
	}
	for column, f := range t.fields {
		if f == f.Schema.FieldsByName[name] { // of embedded structs, two may have the name
			return column
		}
	}
	return ""
}

// replacing is the encrypted column that replaces the plain one that a name means.
func (t *table) replacing(name string) string {
	for column, old := range t.replaced {
		if old.Name == name || strings.EqualFold(old.DBName, plainName(name)) {
			return column
		}
	}
	return ""
}

// replacedColumns lists the plain columns that others replace.
func (t *table) replacedColumns() (columns []string) {
	for _, old := range t.replaced {
		columns = append(columns, old.DBName)
	}
	return columns
}

// plainName is a name without quotes and what stands before its last dot.
func plainName(name string) string {
	name = name[strings.LastIndexByte(name, '.')+1:]
	return strings.ToLower(strings.Trim(name, "\"'`[] "))
}

func (t *table) isID(name string) bool {
	return slices.ContainsFunc(t.ids, func(f *schema.Field) bool {
		return f.Name == name || strings.EqualFold(f.DBName, plainName(name))
	})
}

// hasID reports whether the id of every record is known.
func (t *table) hasID(ctx context.Context, list rows) bool {
	for _, row := range list {
		for _, id := range t.ids {
			// The database assigns an id for zero, except for a number in a composite key.
			number := len(t.ids) > 1 && (id.DataType == schema.Int || id.DataType == schema.Uint)
			if _, zero := id.ValueOf(ctx, valueOf(row)); zero && !number {
				return false
			}
		}
	}
	return true
}

// byID returns the condition that finds a record.
func (t *table) byID(ctx context.Context, row *any) (conditions []clause.Expression) {
	for _, id := range t.ids {
		value, _ := id.ValueOf(ctx, valueOf(row))
		conditions = append(conditions, clause.Eq{Column: clause.Column{Name: id.DBName}, Value: value})
	}
	return conditions
}

// byIDs is the condition that finds records. GORM's own leaves out those with zeros.
func (t *table) byIDs(ctx context.Context, list rows) clause.Expression {
	ids := make([][]any, len(list))
	for i, row := range list {
		ids[i] = t.model.IDValues(row)
	}
	column, values := schema.ToQueryValues(clause.CurrentTable, t.model.IDColumns(), ids)
	return clause.IN{Column: column, Values: values}
}

// included reports whether Select and Omit leave the encrypted columns in a
// statement. They are one: under a new data key each of them is another.
func (t *table) included(stmt *gorm.Statement, create bool) (included, restricted bool) {
	selected, restricted := stmt.SelectAndOmitColumns(create, !create)
	included = !restricted
	for _, column := range t.columns {
		is, mentioned := selected[column]
		if mentioned && !is {
			return false, restricted
		}
		included = included || is
	}
	return included, restricted
}
