package kmsgorm

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// beforeCreate seals the records of an INSERT, or prepares for sealing them when
// the database has given them ids.
func (t *table) beforeCreate(db *gorm.DB) error {
	stmt := db.Statement
	if err := t.checkUpsert(stmt); err != nil {
		return err
	}
	if checked, err := t.checkMaps("create", stmt.Dest); checked || err != nil {
		return err
	}
	if stmt.Schema == nil || stmt.Schema.ModelType != t.rowType {
		return t.checkForeign("create", db, stmt.ReflectValue)
	}
	found, ok := t.find(stmt.ReflectValue)
	if !ok {
		return t.refused("create", "", errors.ErrUnsupported, "pass a pointer, so that the record can be sealed")
	}
	t.model.DropAssignedIDs(found...)
	w := t.begin(db, found)
	w.idAssigned = !t.hasID(stmt.Context, found)
	included, restricted := t.included(stmt, true)
	switch {
	case !included:
		w.leaveOut(stmt)
		return nil
	case !t.hasID(stmt.Context, found):
		return w.sealLater(db)
	case restricted:
		stmt.Selects = slices.Concat(stmt.Selects, t.columns)
	}
	if _, upsert := stmt.Clauses["ON CONFLICT"]; !upsert {
		return t.model.SealNew(stmt.Context, found...)
	}
	// The rows of some records may be there: GORM saves associations like this.
	if err := t.model.Seal(stmt.Context, found...); err != nil {
		return err
	}
	return t.insertOnly(stmt, found)
}

// sealLater makes GORM insert the rows without their encrypted columns.
func (w *work) sealLater(db *gorm.DB) error {
	stmt := db.Statement
	if r, ok := stmt.Clauses["RETURNING"]; ok {
		// It would be read into the records and replace what was set.
		returning, _ := r.Expression.(clause.Returning)
		all := len(returning.Columns) == 0
		for _, c := range returning.Columns {
			all = all || c.Name == "*" || w.managed(c.Name) != ""
		}
		if all {
			return w.refused("create", "", errors.ErrUnsupported, "RETURNING encrypted columns of rows without an id")
		}
	}
	if err := w.insertOnly(stmt, w.rows); err != nil {
		return err
	}
	w.later = true
	w.leaveOut(stmt)
	return w.inTransaction(db)
}

// inTransaction begins a transaction for a statement that is in none.
func (w *work) inTransaction(db *gorm.DB) error {
	stmt := db.Statement
	if _, already := stmt.ConnPool.(gorm.TxCommitter); !already && !db.DryRun {
		tx := db.Begin()
		if tx.Error != nil {
			return tx.Error
		}
		stmt.ConnPool, w.begun = tx.Statement.ConnPool, true
	}
	return nil
}

// end ends a transaction of inTransaction.
func (w *work) end(db *gorm.DB) {
	if !w.begun {
		return
	}
	if db.Error != nil {
		db.Rollback()
	} else if db.Commit().Error == nil && !db.DryRun {
		w.model.Saved(w.rows...)
	}
	db.Statement.ConnPool = db.ConnPool
}

// insertOnly turns an upsert of everything, with which GORM saves a record that
// an UPDATE did not find, into an INSERT. A record that was read is no new one.
func (t *table) insertOnly(stmt *gorm.Statement, list rows) error {
	upsert, _ := stmt.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	if !upsert.UpdateAll {
		return nil
	}
	for _, row := range list {
		if t.wasRead(row) && !t.model.IsUnconfirmed(row) {
			if stmt.ReflectValue.Kind() == reflect.Struct { // from Save: its row is gone
				return t.refused("create", "", kmsencrypted.ErrConflict, "the row was deleted")
			}
			return t.refused("create", "", errors.ErrUnsupported, "save records that were read one by one")
		}
	}
	delete(stmt.Clauses, "ON CONFLICT")
	return nil
}

// wasRead reports whether a key of the record, which is sealed, is in the
// database.
func (t *table) wasRead(row *any) bool {
	write, err := t.model.Write(row)
	if err != nil {
		return false
	}
	for column, f := range t.fields {
		key, isKey := f.ReflectValueOf(context.Background(), valueOf(row)).Addr().Interface().(*field.Key)
		if !isKey {
			continue
		}
		_, exists := key.Version()
		isNew := slices.ContainsFunc(write.Set, func(a field.Assignment) bool { return a.Column == column })
		if exists && !isNew {
			return true
		}
	}
	return false
}

// oneByOne inserts rows that are sealed later each by itself, since their ids must
// be right: without RETURNING GORM computes those of many rows from that of the
// first or last, and on a node of a cluster the numbers between are other rows'.
// With it PostgreSQL does not promise the order, and SQLite denies it.
func oneByOne(insert func(*gorm.DB)) func(*gorm.DB) {
	return func(db *gorm.DB) {
		w := peekWork(db)
		if w == nil || !w.later || len(w.rows) < 2 || db.DryRun || db.Error != nil {
			insert(db)
			return
		}
		stmt, inserted := db.Statement, int64(0)
		all := stmt.ReflectValue
		for _, row := range w.rows {
			stmt.ReflectValue = valueOf(row).Elem()
			stmt.SQL.Reset()
			stmt.Vars = nil
			insert(db)
			if db.Error != nil {
				break
			}
			inserted += min(db.RowsAffected, 1) // 2 is an upsert in MySQL
		}
		stmt.ReflectValue, db.RowsAffected = all, inserted
	}
}

// afterCreate seals what had to wait for its id.
func (p *Plugin) afterCreate(db *gorm.DB) {
	w := workOf(db)
	if w == nil {
		return
	}
	w.restore(db.Statement)
	if db.Error == nil && !db.DryRun {
		if err := w.created(db); err != nil {
			_ = db.AddError(err)
		}
	}
	w.end(db)
}

func (w *work) created(db *gorm.DB) error {
	ctx := db.Statement.Context
	all := db.RowsAffected == int64(len(w.rows))
	if w.later {
		if !all || !w.hasID(ctx, w.rows) {
			return w.refused("create", "", errors.ErrUnsupported, "not every record was inserted: give records an id before an upsert")
		}
		if err := w.model.SealNew(ctx, w.rows...); err != nil {
			return err
		}
		for _, row := range w.rows {
			if err := w.fillIn(db, row); err != nil {
				return err
			}
		}
	}
	if !all { // some rows were there: nothing is known about what they hold
		return nil
	}
	w.confirmed(db, func() { w.model.Inserted(w.idAssigned, w.rows...) })
	if _, returning := db.Statement.Clauses["RETURNING"]; returning {
		return w.model.Open(ctx, w.rows...) // what was read again
	}
	return nil
}

// fillIn writes the encrypted columns of a row that was inserted without them.
func (w *work) fillIn(db *gorm.DB, row *any) error {
	write, err := w.model.Write(row)
	if err != nil || len(write.Set) == 0 {
		return err
	}
	values := make(map[string]any, len(write.Set))
	for _, a := range write.Set {
		values[a.Column] = a.Value
	}
	conditions := append(w.byID(db.Statement.Context, row), &unchanged{write.Where})
	result := own(db).Clauses(clause.Where{Exprs: conditions}).Updates(values)
	if result.Error == nil && result.RowsAffected != 1 {
		return w.refused("create", "", kmsencrypted.ErrConflict, "the row was changed while it was made")
	}
	return result.Error
}
