package kmsgorm

import (
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
)

const saveRecord = "set it in a record and save the record"

// checkMaps refuses encrypted columns in a map of values, and reports whether
// dest is one.
func (t *table) checkMaps(op string, dest any) (isMap bool, err error) {
	var maps []map[string]any
	switch d := dest.(type) {
	case map[string]any:
		maps = append(maps, d)
	case *map[string]any:
		maps = append(maps, *d)
	case []map[string]any:
		maps = d
	case *[]map[string]any:
		maps = *d
	default:
		return false, nil
	}
	for _, m := range maps {
		for name := range m {
			if column := t.managed(name); column != "" {
				return true, t.refused(op, column, kmsencrypted.ErrUnsealed, saveRecord)
			}
			if op == "update" && t.isID(name) {
				return true, t.refused(op, name, errors.ErrUnsupported, "the data key is bound to the id: insert a new record instead")
			}
		}
	}
	return true, nil
}

// checkForeign refuses encrypted columns in another struct for the same table.
func (t *table) checkForeign(op string, db *gorm.DB, v reflect.Value) error {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Array {
		for i := range v.Len() {
			if err := t.checkForeign(op, db, v.Index(i)); err != nil {
				return err
			}
		}
		return nil
	}
	if v.Kind() != reflect.Struct {
		return nil // an error of GORM's
	}
	stmt := &gorm.Statement{DB: db}
	if err := stmt.Parse(reflect.New(v.Type()).Interface()); err != nil {
		return nil // likewise
	}
	for _, f := range stmt.Schema.Fields {
		column := ""
		if f.DBName != "" {
			column = t.managed(f.DBName)
		}
		if column == "" {
			continue
		}
		if _, zero := f.ValueOf(db.Statement.Context, v); !zero {
			return t.refused(op, column, kmsencrypted.ErrUnsealed, saveRecord)
		}
	}
	return nil
}

// checkSet refuses encrypted columns in assignments of the program's.
func (t *table) checkSet(stmt *gorm.Statement) error {
	set, _ := stmt.Clauses["SET"].Expression.(clause.Set)
	return t.checkAssignments("update", set)
}

func (t *table) checkAssignments(op string, set clause.Set) error {
	for _, a := range set {
		if column := t.managed(a.Column.Name); column != "" {
			return t.refused(op, column, kmsencrypted.ErrUnsealed, saveRecord)
		}
		if t.isID(a.Column.Name) {
			return t.refused(op, a.Column.Name, errors.ErrUnsupported, "the data key is bound to the id: insert a new record instead")
		}
	}
	return nil
}

// checkUpsert refuses what would overwrite encrypted columns of a row without
// asking what is in it: values by name, or those of the row to be inserted.
func (t *table) checkUpsert(stmt *gorm.Statement) error {
	upsert, _ := stmt.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	for _, a := range upsert.DoUpdates {
		column := t.managed(a.Column.Name)
		if from, ok := a.Value.(clause.Column); ok && column != "" && from.Table == "excluded" {
			return t.refused("create", column, errors.ErrUnsupported, "an upsert cannot replace it: its row has another data key")
		}
	}
	if err := t.checkAssignments("create", upsert.DoUpdates); err != nil {
		return err
	}
	for _, c := range upsert.Columns {
		if upsert.UpdateAll && !t.isID(c.Name) && c.Name != clause.PrimaryKey {
			return t.refused("create", c.Name, errors.ErrUnsupported, "an upsert cannot replace encrypted columns: their row has another data key")
		}
	}
	return nil
}

// checkConditions refuses plaintexts to compare an encrypted column with: they
// find nothing, and lie in the logs of the database afterwards.
func (t *table) checkConditions(db *gorm.DB) error {
	for _, e := range whereOf(db.Statement).Exprs {
		if column := t.compared(e); column != "" {
			return t.refused("query", column, kmsencrypted.ErrUnsealed, "an encrypted column cannot be searched: use a blind index and kmsgorm.Matches")
		}
	}
	return nil
}

// compared is the encrypted column that an expression compares with a plaintext.
func (t *table) compared(e clause.Expression) string {
	switch e := e.(type) {
	case clause.AndConditions:
		return t.comparedAny(e.Exprs)
	case clause.OrConditions:
		return t.comparedAny(e.Exprs)
	case clause.NotConditions:
		return t.comparedAny(e.Exprs)
	case clause.Eq:
		return t.comparedWith(e.Column, e.Value)
	case clause.Neq:
		return t.comparedWith(e.Column, e.Value)
	case clause.Gt:
		return t.comparedWith(e.Column, e.Value)
	case clause.Gte:
		return t.comparedWith(e.Column, e.Value)
	case clause.Lt:
		return t.comparedWith(e.Column, e.Value)
	case clause.Lte:
		return t.comparedWith(e.Column, e.Value)
	case clause.Like:
		return t.comparedWith(e.Column, e.Value)
	case clause.IN:
		return t.comparedWith(e.Column, e.Values...)
	case clause.Expr:
		return t.comparedInText(e.SQL, e.Vars)
	case clause.NamedExpr:
		return t.comparedInText(e.SQL, nil)
	}
	return ""
}

func (t *table) comparedAny(list []clause.Expression) string {
	for _, e := range list {
		if column := t.compared(e); column != "" {
			return column
		}
	}
	return ""
}

func (t *table) comparedWith(name any, values ...any) string {
	column := t.managedName(name)
	if !t.isSecret(column) {
		return ""
	}
	for _, v := range values {
		if !isStored(v) {
			return column
		}
	}
	return ""
}

func (t *table) isSecret(column string) bool { return slices.Contains(t.secret, column) }

// isStored reports whether a value is NULL or what such a column may hold: a
// sealed field or the column of an index.
func isStored(v any) bool {
	if v == nil {
		return true
	}
	if s, ok := v.(interface{ IsSet() bool }); ok && s.IsSet() {
		return false
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Slice && r.Type().Elem().Kind() != reflect.Uint8 {
		for i := range r.Len() {
			if !isStored(r.Index(i).Interface()) {
				return false
			}
		}
		return true
	}
	return isOurs(reflect.TypeOf(v))
}

// comparison is a name before an operator and a placeholder.
var comparison = regexp.MustCompile(`(?is)(\w+)["` + "`" + `\]]?\s*(?:=|==|<>|!=|<=?>?|>=?|!?~~?\*?|(?:not\s+)?(?:i?like|in|between|glob|regexp|match)\b|is\s+(?:not\s+)?(?:distinct\s+from\b)?)\s*\(?\s*[?@]`)

// comparedInText looks for such comparisons in SQL. Without vars the
// placeholders have names, and nothing is known about what they stand for.
func (t *table) comparedInText(sql string, vars []any) string {
	for _, at := range comparison.FindAllStringSubmatchIndex(sql, -1) {
		column := t.managed(sql[at[2]:at[3]])
		if !t.isSecret(column) {
			continue
		}
		n := strings.Count(sql[:at[1]-1], "?")
		if sql[at[1]-1] == '?' && n < len(vars) && isStored(vars[n]) {
			continue
		}
		return column
	}
	return ""
}
