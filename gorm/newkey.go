package kmsgorm

import (
	"database/sql"
	"errors"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// dialectOf is the dialect of a database; GORM's own drivers have the same names.
func dialectOf(db *gorm.DB) field.Dialect { return field.Dialect(db.Dialector.Name()) }

// lockForKey locks a row that gets another data key. Columns that the table has and
// the model does not know must not be lost with the old key.
func (w *work) lockForKey(db *gorm.DB, write *field.Write) error {
	if err := w.inTransaction(db); err != nil {
		return err
	}
	stmt := db.Statement
	table := sqldialect.Table{Dialect: dialectOf(db), Name: stmt.Table}
	var id []any
	for _, f := range w.ids {
		value, _ := f.ValueOf(stmt.Context, valueOf(w.rows[0]))
		table.IDs, id = append(table.IDs, f.DBName), append(id, value)
	}
	if table.Dialect.Check() != nil {
		return w.refused("update", "", errors.ErrUnsupported, "a new data key in a database of the dialect "+db.Dialector.Name())
	}
	existing, err := table.LockedColumns(stmt.Context, sqldialect.Of(stmt.ConnPool), id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // the UPDATE finds no row
	}
	if err != nil {
		return err
	}
	unknown := w.model.UnknownColumns(existing)
	if len(unknown) == 0 {
		return nil
	}
	if write.Key == field.KeyRekeyed {
		return &kmsencrypted.Error{Op: "update", Record: w.name, Err: kmsencrypted.ErrConfig, Cause: field.UnknownColumnsError(unknown)}
	}
	now := make(map[string]any)
	if err := own(db).Select(unknown).Where(clause.Where{Exprs: w.byID(stmt.Context, w.rows[0])}).Limit(1).Find(&now).Error; err != nil {
		return err
	}
	for _, name := range unknown {
		if now[name] != nil {
			return &kmsencrypted.Error{Op: "update", Record: w.name, Column: name, Err: kmsencrypted.ErrNeedsDecrypt, Cause: field.UnknownColumnsError(unknown)}
		}
		write.Where = append(write.Where, field.Assignment{Column: name})
	}
	return nil
}
