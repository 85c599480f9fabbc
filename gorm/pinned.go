package kmsgorm

import (
	"cmp"
	"maps"
	"reflect"
	"regexp"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// gorm.G has no record: it names the rows of an update by conditions. One that pins
// the primary key names one record, whatever the table holds.

// pinned returns an empty record with the primary key that the conditions of a
// statement pin, or nil if they may hold for several.
func (t *table) pinned(stmt *gorm.Statement) *any {
	where, _ := stmt.Clauses["WHERE"].Expression.(clause.Where)
	record := reflect.New(t.rowType)
	found := make(map[string]bool)
	for column, value := range t.pins(stmt, where.Exprs) {
		for _, id := range t.ids {
			if id.DBName == column && id.Set(stmt.Context, record, value) == nil {
				found[column] = true
			}
		}
	}
	row := rowOf(record.Elem())
	if len(t.ids) == 0 || len(found) != len(t.ids) || !t.hasID(stmt.Context, rows{row}) {
		return nil
	}
	return row
}

// pins returns the columns of the primary key that conditions compare with one value
// each. Conditions that stand beside an OR pin nothing.
func (t *table) pins(stmt *gorm.Statement, conditions []clause.Expression) map[string]any {
	pins := make(map[string]any)
	for _, condition := range conditions {
		switch c := condition.(type) {
		case clause.OrConditions:
			return nil
		case clause.AndConditions:
			maps.Copy(pins, t.pins(stmt, c.Exprs))
			continue
		}
		column, value := sides(condition)
		if name := t.ownID(stmt, column); name != "" && value != nil && !isSQL(value) {
			pins[name] = value
		}
	}
	return pins
}

// sides returns the column and the value of a condition that compares the two.
func sides(condition clause.Expression) (column, value any) {
	switch c := condition.(type) {
	case clause.Eq:
		return c.Column, c.Value
	case clause.IN:
		if len(c.Values) == 1 {
			return c.Column, c.Values[0]
		}
	case clause.Expr:
		if name := equation.FindStringSubmatch(c.SQL); name != nil && len(c.Vars) == 1 {
			return name[1], c.Vars[0]
		}
	}
	return nil, nil
}

// equation is a condition that compares one column with one value.
var equation = regexp.MustCompile(`^\s*([\w."` + "`" + `\[\]]+)\s*=\s*\?\s*$`)

// ownID returns the column of the table's primary key that a condition names.
func (t *table) ownID(stmt *gorm.Statement, column any) string {
	var of, name string
	switch c := column.(type) {
	case string:
		name = c
		if i := strings.LastIndexByte(c, '.'); i >= 0 {
			of, name = c[:i], c[i+1:]
		}
	case clause.Column:
		of, name = c.Table, c.Name
	}
	if of != "" && of != clause.CurrentTable && plainName(of) != plainName(stmt.Table) {
		return ""
	}
	for _, id := range t.ids {
		if name == clause.PrimaryKey && len(t.ids) == 1 || name == id.Name || plainName(name) == plainName(id.DBName) {
			return id.DBName
		}
	}
	return ""
}

// ownSet are assignments of the program's own, such as those of gorm.G's Set.
type ownSet struct {
	given map[string]any // to managed columns
	plain clause.Set
}

// takeSet takes the program's own assignments out of a statement that sets encrypted
// columns of one record. It leaves those that checkSet refuses.
func (w *work) takeSet(stmt *gorm.Statement) {
	all, _ := stmt.Clauses["SET"].Expression.(clause.Set)
	set := &ownSet{given: make(map[string]any)}
	for _, a := range all {
		if column := cmp.Or(w.managed(a.Column.Name), w.replacing(a.Column.Name)); column != "" {
			set.given[column] = a.Value
		} else {
			set.plain = append(set.plain, a)
		}
	}
	refused := len(set.given)+len(set.plain) < len(all) || w.checkAssignments("update", set.plain) != nil
	if len(set.given) > 0 && !refused && w.pinned(stmt) != nil {
		w.ownSet, w.whole = set, false
		delete(stmt.Clauses, "SET")
	}
}

// readPinned reads a record of which only the primary key is known. An update may
// move it: so it is opened under the encryption context of its row.
func (w *work) readPinned(db *gorm.DB, row *any) error {
	found := reflect.New(reflect.SliceOf(w.rowType))
	read := own(db).Unscoped().Where(clause.Where{Exprs: w.byID(db.Statement.Context, row)}).Limit(1).Find(found.Interface())
	if read.Error != nil || found.Elem().Len() == 0 {
		return read.Error
	}
	valueOf(row).Elem().Set(found.Elem().Index(0))
	return w.model.Open(db.Statement.Context, row)
}
