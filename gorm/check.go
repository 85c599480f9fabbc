package kmsgorm

import (
	"cmp"
	"database/sql/driver"
	"errors"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
)

const saveRecord = "set it in a record and save the record"

// checkMaps refuses encrypted columns in a map of values, and reports whether a
// statement has one. In a stored row it refuses columns of the encryption context too.
func (t *table) checkMaps(op string, stmt *gorm.Statement) (isMap bool, err error) {
	var maps []map[string]any
	switch d := stmt.Dest.(type) {
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
			name = columnOf(stmt, name)
			if column := t.managed(name); column != "" {
				return true, t.refused(op, column, kmsencrypted.ErrUnsealed, saveRecord)
			}
			if column := t.replacing(name); column != "" {
				return true, t.refuseReplaced(op, column)
			}
			if column := t.inContext(name); column != "" && moves(op, stmt) {
				return true, t.refuseMove(op, column)
			}
			if op == "update" && t.isID(name) {
				return true, t.refused(op, name, errors.ErrUnsupported, "the data key is bound to the id: insert a new record instead")
			}
		}
	}
	return true, nil
}

// columnOf returns the column that GORM takes a name in a map for: that of a field of
// the statement's struct, which may be another one than the model's.
func columnOf(stmt *gorm.Statement, name string) string {
	if stmt.Schema == nil {
		return name
	}
	if f := stmt.Schema.LookUpField(name); f != nil && f.DBName != "" {
		return f.DBName
	}
	return name
}

// checkForeign refuses encrypted columns in another struct for the same table, and
// columns of the encryption context of a stored row.
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
		if f.DBName == "" {
			continue
		}
		_, zero := f.ValueOf(db.Statement.Context, v)
		overwrites := moves(op, db.Statement) && writesColumn(op, db.Statement, f.DBName, zero)
		if column := cmp.Or(t.managed(f.DBName), t.replacing(f.DBName)); column != "" && (!zero || overwrites) {
			return t.refused(op, column, kmsencrypted.ErrUnsealed, saveRecord)
		}
		if column := t.inContext(f.DBName); column != "" && overwrites {
			return t.refuseMove(op, column)
		}
	}
	return nil
}

// checkSet refuses encrypted columns in the program's assignments.
func (t *table) checkSet(stmt *gorm.Statement) error {
	set, _ := stmt.Clauses["SET"].Expression.(clause.Set)
	return errors.Join(t.checkAssignments("update", set), t.checkContext("update", set))
}

// refuseReplaced refuses to write a plain column without the one that replaces it.
func (t *table) refuseReplaced(op, column string) error {
	return t.refused(op, column, kmsencrypted.ErrUnsealed, t.replaced[column].DBName+", which it replaces, is not written without it: "+saveRecord)
}

func (t *table) checkAssignments(op string, set clause.Set) error {
	for _, a := range set {
		if column := t.managed(a.Column.Name); column != "" {
			return t.refused(op, column, kmsencrypted.ErrUnsealed, saveRecord)
		}
		if column := t.replacing(a.Column.Name); column != "" {
			return t.refuseReplaced(op, column)
		}
		if t.isID(a.Column.Name) {
			return t.refused(op, a.Column.Name, errors.ErrUnsupported, "the data key is bound to the id: insert a new record instead")
		}
	}
	return nil
}

// checkUpsert refuses assignments that would overwrite encrypted columns of a stored
// row without reading it: values by name, or those of a row to insert that is found by
// another column than its primary key or a blind index.
func (t *table) checkUpsert(stmt *gorm.Statement) error {
	upsert, _ := stmt.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	for _, a := range upsert.DoUpdates {
		if column := t.inContext(a.Column.Name); column != "" && !t.mayKeepContext(stmt, a) {
			return t.refuseMove("create", column)
		}
	}
	if err := t.checkAssignments("create", slices.DeleteFunc(slices.Clone(upsert.DoUpdates), t.isExcluded)); err != nil {
		return err
	}
	for _, c := range upsert.Columns {
		if t.overwrites(upsert) && !t.isID(c.Name) && c.Name != clause.PrimaryKey && !t.byIndex(upsert) {
			return t.refused("create", c.Name, errors.ErrUnsupported, "an upsert cannot replace encrypted columns: the stored row has another data key")
		}
	}
	return nil
}

func (t *table) isSecret(column string) bool { return slices.Contains(t.secret, column) }

// isStored reports whether an encrypted column may be compared with a value: NULL, a
// sealed field, or an index.
func isStored(v any) bool {
	if v == nil {
		return true
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && r.IsNil() {
		return true
	}
	if n, ok := v.(driver.Valuer); ok {
		if value, err := n.Value(); err == nil && value == nil {
			return true
		}
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
	_, sealed := v.(stored)
	return sealed || isOurs(reflect.TypeOf(v))
}

// stored is a value that a model computed for a column.
type stored struct{ value driver.Value }

// Value implements [driver.Valuer].
func (s stored) Value() (driver.Value, error) { return s.value, nil }
