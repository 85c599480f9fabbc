package kmsgorm

import (
	"database/sql/driver"
	"errors"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// whyNone finds out why an UPDATE matched no row. If the key of the row was
// rewrapped, whyNone repeats the UPDATE. If somebody changed a column that the update
// depends on, it returns a conflict. Otherwise a condition of the program did not
// hold, or MySQL counted only rows that changed: then, as usual in GORM, no row is
// affected and there is no error.
func (w *work) whyNone(db *gorm.DB) error {
	for range 3 {
		if db.RowsAffected != 0 || len(w.change.Where) == 0 {
			return nil
		}
		changed, err := w.keyChanged(db)
		if err != nil || !changed {
			return err
		}
		if err := w.again(db); err != nil {
			return err
		}
	}
	return w.refused("update", "", kmsencrypted.ErrConflict, "the row keeps changing")
}

// keyChanged reads the row again, without the program's conditions, and reports
// whether the record took over a rewrapped key.
func (w *work) keyChanged(db *gorm.DB) (changed bool, err error) {
	row := w.rows[0]
	now, err := w.keysNow(db)
	if err != nil || now == nil {
		return false, err
	}
	for _, a := range w.change.Where {
		if !w.isKey(a.Column) || same(a, now[a.Column]) {
			continue
		}
		err := w.model.KeyChanged(db.Statement.Context, row, a.Column, now[a.Column])
		if errors.Is(err, kmsencrypted.ErrConflict) && w.whole && slices.Contains(w.selects, "*") && w.model.IsUnconfirmed(row) {
			return false, nil // its id went to another row: Save inserts it
		}
		if err != nil {
			return false, err
		}
		changed = true
	}
	if changed {
		return true, nil
	}
	return false, w.checkOthers(db)
}

// keysNow reads the key columns of the row. It returns nil if the row is gone.
func (w *work) keysNow(db *gorm.DB) (map[string]any, error) {
	columns := make([]string, 0, len(w.ids)+1)
	for _, id := range w.ids {
		columns = append(columns, id.DBName)
	}
	for _, a := range w.change.Where {
		if w.isKey(a.Column) {
			columns = append(columns, a.Column)
		}
	}
	now := make(map[string]any)
	found := own(db).Select(columns).Where(clause.Where{Exprs: w.byID(db.Statement.Context, w.rows[0])}).Limit(1).Find(&now)
	if found.Error != nil || found.RowsAffected == 0 {
		return nil, found.Error
	}
	return now, nil
}

// checkOthers compares the other columns of the condition, in the database.
func (w *work) checkOthers(db *gorm.DB) error {
	others := slices.DeleteFunc(slices.Clone(w.change.Where), func(a field.Assignment) bool { return w.isKey(a.Column) })
	if len(others) == 0 {
		return nil
	}
	var n int64
	conditions := append(w.byID(db.Statement.Context, w.rows[0]), &unchanged{w.table, others})
	if err := own(db).Where(clause.Where{Exprs: conditions}).Count(&n).Error; err != nil {
		return err
	}
	if n == 0 {
		return w.refused("update", others[0].Column, kmsencrypted.ErrConflict, "the row was changed")
	}
	return nil
}

func (t *table) isKey(column string) bool {
	f := t.fields[column]
	return f != nil && f.FieldType == keyType
}

// again repeats the update for a record whose key was rewrapped in the meantime.
func (w *work) again(db *gorm.DB) error {
	write, err := w.model.Write(w.rows[0], w.assignedNames()...)
	if err != nil {
		return err
	}
	stmt := db.Statement
	w.change, w.condition.columns = &write, write.Where
	w.setColumns(stmt)
	stmt.SQL.Reset()
	stmt.Vars = nil
	stmt.Build(stmt.BuildClauses...) // so that no clause of a field is added twice
	db.Callback().Update().Get("gorm:update")(db)
	return db.Error
}

// same compares the old and the present value of a column. Drivers return text as
// strings or as bytes.
func same(was field.Assignment, now any) bool {
	return slices.ContainsFunc(was.Values(), func(v driver.Value) bool { return asText(v) == asText(now) })
}

func asText(v any) any {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return v
}
