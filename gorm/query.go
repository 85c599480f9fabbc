package kmsgorm

import (
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

const readIntoRecord = "read it into a record, or into fields of the same type"

// beforeQuery refuses to read ciphertexts into types other than fields.
func (t *table) beforeQuery(db *gorm.DB) error {
	if column := t.readAsText(db); column != "" {
		return t.refused("query", column, kmsencrypted.ErrNotOpened, readIntoRecord)
	}
	return t.readsBoth(db)
}

// readsBoth refuses to read a column that is migrating without the one that it
// replaces, whose value goes before. What raw SQL selects is not known here.
func (t *table) readsBoth(db *gorm.DB) error {
	stmt := db.Statement
	if stmt.Dest == nil || stmt.Schema == nil || elemType(reflect.TypeOf(stmt.Dest)) != t.rowType {
		return nil
	}
	for _, c := range t.model.Replacements() {
		if readsColumn(stmt, c.Column) && !readsColumn(stmt, c.Old) {
			return t.refused("query", c.Old, kmsencrypted.ErrNotLoaded, "its value counts while "+c.Column+" is tagged migrating: select both")
		}
	}
	return nil
}

// readsColumn reports whether a query selects a column.
func readsColumn(stmt *gorm.Statement, column string) bool {
	is := func(name string) bool {
		if f := stmt.Schema.LookUpField(name); f != nil { // the column's name or the Go field's
			return f.DBName == column
		}
		return strings.EqualFold(plainName(name), column)
	}
	names := selectedNames(stmt)
	if len(names) == 0 {
		return !slices.ContainsFunc(stmt.Omits, is)
	}
	return slices.ContainsFunc(names, func(name string) bool {
		words := strings.Fields(name) // city, or … AS city
		return len(words) > 0 && (is(words[len(words)-1]) || plainName(words[0]) == "*")
	})
}

// selectedNames are the columns that a query names, one by one.
func selectedNames(stmt *gorm.Statement) (names []string) {
	list := stmt.Selects
	if s, ok := stmt.Clauses["SELECT"].Expression.(clause.Select); ok {
		for _, c := range s.Columns {
			list = append(slices.Clip(list), c.Name)
		}
	}
	for _, name := range list {
		names = append(names, strings.Split(name, ",")...)
	}
	return names
}

// readAsText returns the encrypted column that a query would read as a bare
// ciphertext, or "".
func (t *table) readAsText(db *gorm.DB) string {
	stmt := db.Statement
	if stmt.Dest == nil {
		return ""
	}
	dest := elemType(reflect.TypeOf(stmt.Dest))
	switch {
	case dest == t.rowType || isOurs(dest):
		return ""
	case dest.Kind() == reflect.Map:
		return t.selected(stmt, stmt.Schema != nil && stmt.Schema.ModelType == t.rowType)
	case dest.Kind() == reflect.Struct:
		other := &gorm.Statement{DB: db}
		if err := other.Parse(reflect.New(dest).Interface()); err == nil {
			for _, column := range t.secret {
				if f := other.Schema.FieldsByDBName[column]; f != nil && !isOurs(f.FieldType) {
					return column
				}
			}
		}
		return ""
	case dest.Kind() == reflect.String, dest.Kind() == reflect.Interface, dest.Kind() == reflect.Uint8:
		return t.selected(stmt, false)
	}
	return ""
}

// elemType is the type of the elements of slices and pointers.
func elemType(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
		t = t.Elem()
	}
	return t
}

// selected returns an encrypted column that a query names, or, if it names no
// columns and all is true, one that it would select.
func (t *table) selected(stmt *gorm.Statement, all bool) string {
	names := selectedNames(stmt)
	for _, name := range names {
		if column := t.managed(strings.TrimSpace(name)); t.isSecret(column) {
			return column
		}
	}
	if all && len(names) == 0 {
		for _, column := range t.secret {
			if !slices.ContainsFunc(stmt.Omits, func(name string) bool { return t.managed(name) == column }) {
				return column
			}
		}
	}
	return ""
}

// afterQuery opens all records of a result at once.
func (p *Plugin) afterQuery(db *gorm.DB) {
	if _, own := db.Get(settingOwn); own || db.Error != nil || db.DryRun || db.RowsAffected == 0 || db.Statement.Schema == nil {
		return
	}
	if t := p.tableFor(elemType(reflect.TypeOf(db.Statement.Dest))); t != nil {
		p.open(db, t, db.Statement.ReflectValue)
	}
	for _, join := range db.Statement.Joins {
		p.openJoined(db, strings.Split(join.Name, "."))
	}
}

// open opens the records in values, or prepares them for [Lazily].
func (p *Plugin) open(db *gorm.DB, t *table, values ...reflect.Value) {
	var found rows
	for _, v := range values {
		more, ok := t.find(v)
		if !ok {
			return
		}
		found = append(found, more...)
	}
	if len(found) == 0 {
		return
	}
	if lazily, _ := db.Get(settingLazily); lazily == true {
		t.model.OpenLazily(found...)
	} else if err := t.model.Open(db.Statement.Context, found...); err != nil {
		_ = db.AddError(err)
	}
}

// openJoined opens the records that Joins put into the records of a result.
func (p *Plugin) openJoined(db *gorm.DB, path []string) {
	parents := []reflect.Value{db.Statement.ReflectValue}
	relations := db.Statement.Schema.Relationships.Relations
	for _, name := range path {
		relation := relations[name]
		if relation == nil {
			return // a join in SQL
		}
		var children []reflect.Value
		for _, parent := range parents {
			for _, v := range structs(parent) {
				children = append(children, structs(relation.Field.ReflectValueOf(db.Statement.Context, v))...)
			}
		}
		if t := p.tableFor(relation.FieldSchema.ModelType); t != nil {
			p.open(db, t, children...)
		}
		parents, relations = children, relation.FieldSchema.Relationships.Relations
	}
}

// structs lists the structs in a value.
func structs(v reflect.Value) (list []reflect.Value) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			list = append(list, structs(v.Index(i))...)
		}
	case reflect.Struct:
		list = append(list, v)
	}
	return list
}

// Matches is a condition that finds records by the value of an encrypted field,
// through its blind index:
//
//	db.Where(kmsgorm.Matches(customers.Lookup("Email", "ada@example.org"))).Find(&list)
//
// An index may find other records too: keep those for which [field.Lookup.Matches]
// is true. An error of the look-up becomes that of the query; what is sought
// nowhere finds nothing.
func Matches(l field.Lookup) clause.Expression { return matches{l} }

type matches struct{ lookup field.Lookup }

// Build implements [clause.Expression].
func (m matches) Build(builder clause.Builder) {
	if err := m.lookup.Err(); err != nil {
		_ = builder.AddError(err)
		return
	}
	column := clause.Column{Name: m.lookup.Name}
	var either []clause.Expression
	if len(m.lookup.Columns) > 0 {
		either = append(either, clause.IN{Column: column, Values: m.lookup.Args()})
	}
	if m.lookup.Null {
		either = append(either, clause.Eq{Column: column})
	}
	if len(either) == 0 {
		builder.WriteString("1 = 0")
		return
	}
	builder.WriteByte('(')
	for i, e := range either {
		if i > 0 {
			builder.WriteString(" OR ")
		}
		e.Build(builder)
	}
	builder.WriteByte(')')
}
