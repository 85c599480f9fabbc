package kmsgorm

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// table is what the plugin knows about one model.
type table struct {
	model   field.Adapter[any]
	rowType reflect.Type // the struct
	name    string
	columns []string // that the model manages
	ids     []*schema.Field
	fields  map[string]*schema.Field // managed, by column
	secret  []string                 // encrypted columns and indexes: nothing to compare a plaintext with
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
	t := &table{model: m, rowType: m.RowType(), name: m.Table(), columns: m.Columns(), fields: make(map[string]*schema.Field)}
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
		readNull(f)
		if f.FieldType != keyType && f.FieldType != partType {
			t.secret = append(t.secret, column)
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
	return t, errors.Join(mistakes...)
}

// readNull makes GORM tell a column that it was read and is NULL. Without, it
// leaves the column as it is, which would count as not read.
func readNull(f *schema.Field) {
	set, pointer := f.Set, reflect.PointerTo(f.FieldType)
	f.Set = func(ctx context.Context, row reflect.Value, v any) error {
		if r := reflect.ValueOf(v); r.IsValid() && r.Type() == pointer && r.IsNil() {
			return f.ReflectValueOf(ctx, row).Addr().Interface().(sql.Scanner).Scan(nil)
		}
		return set(ctx, row, v)
	}
}

// isOurs reports whether a type is a column of package field or of blindindex.
func isOurs(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	path := t.PkgPath()
	return path == keyType.PkgPath() || path == reflect.TypeFor[blindindex.Column]().PkgPath()
}

// managed is the column of the model that a name means, however it is written:
// as the struct's field or the column, in quotes, in capitals, after a table.
func (t *table) managed(name string) string {
	for column, f := range t.fields {
		if f.Name == name || strings.EqualFold(column, plainName(name)) {
			return column
		}
	}
	return ""
}

// managedName is the same for what clauses use as a column.
func (t *table) managedName(column any) string {
	switch c := column.(type) {
	case string:
		return t.managed(c)
	case clause.Column:
		return t.managed(c.Name)
	}
	return ""
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
			// A zero is an id of the database's, except of a number in a composite key.
			number := len(t.ids) > 1 && (id.DataType == schema.Int || id.DataType == schema.Uint)
			if _, zero := id.ValueOf(ctx, valueOf(row)); zero && !number {
				return false
			}
		}
	}
	return true
}

// byID is the condition that finds a record.
func (t *table) byID(ctx context.Context, row *any) (conditions []clause.Expression) {
	for _, id := range t.ids {
		value, _ := id.ValueOf(ctx, valueOf(row))
		conditions = append(conditions, clause.Eq{Column: clause.Column{Name: id.DBName}, Value: value})
	}
	return conditions
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

// work is a statement under way: what was changed in it for GORM's callback, and
// what is to be done after it.
type work struct {
	*table
	rows           rows
	selects, omits []string // as they were

	later      bool // Create: seal when the ids are known
	begun      bool // a transaction of ours
	idAssigned bool // Create: the database makes the ids

	change    *field.Write // Update: what the record writes
	assigned  clause.Set   // and what GORM does
	condition *unchanged
	isSave    bool
}

func (t *table) begin(db *gorm.DB, list rows) *work {
	w := &work{table: t, rows: list, selects: db.Statement.Selects, omits: db.Statement.Omits}
	db.InstanceSet(settingWork, w)
	return w
}

// peekWork is the work that begin left.
func peekWork(db *gorm.DB) *work {
	v, _ := db.InstanceGet(settingWork)
	w, _ := v.(*work)
	return w
}

// workOf is peekWork for the callback after GORM's.
func workOf(db *gorm.DB) *work {
	w := peekWork(db)
	if w != nil {
		db.InstanceSet(settingWork, (*work)(nil)) // a statement may be used again
	}
	return w
}

// confirmed marks records whose statement succeeded: as saved if it is committed,
// which a transaction that GORM began for it is not before its own callback.
func (w *work) confirmed(db *gorm.DB, mark func()) {
	_, inTransaction := db.Statement.ConnPool.(gorm.TxCommitter)
	if !inTransaction {
		w.model.Saved(w.rows...)
		return
	}
	mark()
	if _, begun := db.InstanceGet("gorm:started_transaction"); begun {
		db.InstanceSet(settingUnconfirmed, w)
	}
}

// confirm runs after GORM ended the transaction that it began for a statement.
func (p *Plugin) confirm(db *gorm.DB) {
	if v, ok := db.InstanceGet(settingUnconfirmed); ok {
		if w, _ := v.(*work); w != nil && db.Error == nil {
			w.model.Saved(w.rows...)
		}
		db.InstanceSet(settingUnconfirmed, (*work)(nil))
	}
}

// leaveOut keeps GORM from writing the encrypted columns.
func (w *work) leaveOut(stmt *gorm.Statement) {
	stmt.Omits = slices.Concat(stmt.Omits, w.columns)
}

func (w *work) restore(stmt *gorm.Statement) { stmt.Selects, stmt.Omits = w.selects, w.omits }

// unchanged is the condition that the columns of a record still hold what was
// read. It can be given other columns after it was built into a statement.
type unchanged struct{ columns []field.Assignment }

func (u *unchanged) Build(builder clause.Builder) {
	for i, a := range u.columns {
		if i > 0 {
			builder.WriteString(" AND ")
		}
		var either []clause.Expression
		for _, value := range a.Values() {
			either = append(either, clause.Eq{Column: clause.Column{Name: a.Column}, Value: value}) // IS NULL for nil
		}
		clause.And(clause.Or(either...)).Build(builder)
	}
}

// own is a statement of this package on the connection of another.
func own(db *gorm.DB) *gorm.DB {
	tx := db.Session(&gorm.Session{NewDB: true, SkipHooks: true}).Set(settingOwn, true)
	if expr := db.Statement.TableExpr; expr != nil {
		return tx.Table(expr.SQL, expr.Vars...)
	}
	return tx.Table(db.Statement.Table)
}
