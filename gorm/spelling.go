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
	"github.com/kmsencrypted/kmsencrypted/internal/spelling"
)

// See package spelling for why a row must be asked for what its record is bound to. Only
// some of GORM's drivers have RETURNING, so a query of its own asks.

// keepSealed copies records with ids before their INSERT, which may write other ids
// into them, and begins a transaction that takes the rows back.
func (w *work) keepSealed(db *gorm.DB) error {
	if !w.spells || db.DryRun {
		return nil
	}
	for _, row := range w.rows {
		if !slices.Contains(w.later, row) && !slices.Contains(w.existing, row) {
			w.asSealed, w.copied = append(w.asSealed, w.model.Copy(row)), append(w.copied, row)
		}
	}
	if len(w.asSealed) == 0 {
		return nil
	}
	return w.inTransaction(db)
}

// checkInserted compares rows with what their records were sealed for. Rows that would
// never open are deleted, because the program may go on with its own transaction; but
// not where they may have been there before.
func (w *work) checkInserted(db *gorm.DB) error {
	list := w.asSealed
	if w.spells && len(w.context) > 0 { // the ids are those that the database gave them
		list = slices.Concat(list, w.later)
	}
	if len(list) == 0 {
		return nil
	}
	told, err := w.boundOf(db, list, w.byIDs)
	if err == nil && w.uncertain {
		list, told, err = w.ours(db, list, told)
	}
	if err != nil {
		return err
	}
	lost, err := spelling.Check(w.model, list, told)
	if err == nil {
		return nil
	}
	err = w.of(lost, w.respelled("create", err))
	if overwrites := !w.uncertain && !w.counted && w.isUpsert; overwrites {
		return err
	}
	return errors.Join(err, w.takeBack(db, list))
}

// ours leaves out records that were not inserted, since other rows were there. If
// there are fewer than rows that were written, the ids of some are not even similar.
func (w *work) ours(db *gorm.DB, list, told rows) (inserted, as rows, err error) {
	if inserted, as = w.withKeys(list, told); int64(len(inserted)) >= db.RowsAffected {
		return inserted, as, nil
	}
	told, err = w.boundOf(db, list, w.byKeys)
	inserted, as = w.withKeys(list, told)
	return inserted, as, err
}

// withKeys finds the rows that have the data keys of records.
func (w *work) withKeys(list, stored rows) (found, as rows) {
	for _, row := range list {
		i := slices.IndexFunc(stored, func(now *any) bool { return now != nil && w.sameKeys(row, now) })
		if i >= 0 {
			found, as = append(found, row), append(as, stored[i])
		}
	}
	return found, as
}

// mayBind prepares for checkBound: a statement that binds the rows of records to values
// of the program's can be undone after it. plain are the columns that GORM sets.
func (w *work) mayBind(db *gorm.DB, list rows, write field.Write, plain ...string) error {
	if !w.spells || db.DryRun || !spelling.Binds(w.model, write, plain...) {
		return nil
	}
	w.binding = slices.Concat(w.binding, list)
	if err := w.inTransaction(db); err != nil {
		return err
	}
	if _, begun := db.InstanceGet("gorm:started_transaction"); begun || w.begun || w.savepoint {
		return nil
	}
	w.savepoint = true
	return own(db).SavePoint(savepoint).Error
}

const savepoint = "kmsencrypted"

// checkBound compares rows with what their records are bound to by the statement, and
// undoes it if one of them would never open.
func (w *work) checkBound(db *gorm.DB, op string) error {
	if len(w.binding) == 0 {
		return nil
	}
	err := w.checkTold(db, op, w.binding)
	switch {
	case !w.savepoint:
	case err != nil:
		err = errors.Join(err, own(db).WithContext(context.WithoutCancel(db.Statement.Context)).RollbackTo(savepoint).Error)
	case dialectOf(db).Check() == nil: // others keep it
		err = own(db).Exec("RELEASE SAVEPOINT " + savepoint).Error
	}
	if err != nil {
		db.RowsAffected = 0
	}
	return err
}

// checkTold compares rows that are there.
func (w *work) checkTold(db *gorm.DB, op string, list rows) error {
	told, err := w.boundOf(db, list, w.byIDs)
	if err != nil {
		return err
	}
	lost, err := spelling.Check(w.model, list, told)
	return w.of(lost, w.respelled(op, err))
}

// boundOf reads what rows have in the columns that records are bound to, and their keys.
func (w *work) boundOf(db *gorm.DB, list rows, condition func(context.Context, rows) clause.Expression) (told rows, err error) {
	columns := slices.Concat(w.model.BoundColumns(), w.model.KeyColumns())
	for part := range slices.Chunk(list, 1000) {
		query := own(db).Unscoped().Select(columns).Where(clause.Where{Exprs: []clause.Expression{condition(db.Statement.Context, part)}})
		result, err := query.Rows()
		if err != nil {
			return nil, err
		}
		for result.Next() {
			row := rowOf(reflect.New(w.rowType).Elem())
			if err := own(db).ScanRows(result, *row); err != nil {
				row = nil // the type cannot hold it: it is none of the program's
			}
			told = append(told, row)
		}
		if err := errors.Join(result.Err(), result.Close()); err != nil {
			return nil, err
		}
	}
	return told, nil
}

// checkFound is for an upsert: a row that the database takes for a record's own, under
// another spelling, would be overwritten for an id that it does not have.
func (w *work) checkFound(asked rows, found map[string]*any) error {
	own := make(map[string]bool)
	for _, row := range asked {
		own[w.idText(row)] = true
	}
	for id := range found {
		if !own[id] {
			return w.respelled("create", spelling.Error(w.name))
		}
	}
	return nil
}

// takeBack deletes the rows that were inserted for records, whatever their ids are:
// they have the records' wrapped keys, which no others have.
func (w *work) takeBack(db *gorm.DB, list rows) error {
	for part := range slices.Chunk(list, 1000) {
		ctx := context.WithoutCancel(db.Statement.Context)
		if err := own(db).WithContext(ctx).Where(clause.Where{Exprs: []clause.Expression{w.byKeys(ctx, part)}}).Delete(nil).Error; err != nil {
			return err
		}
	}
	return nil
}

// takeLaterBack deletes rows that could not be completed. A row that an upsert gave the
// id of may be another's.
func (w *work) takeLaterBack(db *gorm.DB, err error) error {
	_, ours := errors.AsType[*kmsencrypted.Error](err) // and so the transaction goes on
	if !ours || w.isUpsert || len(w.later) == 0 {
		return err
	}
	ctx := context.WithoutCancel(db.Statement.Context)
	return errors.Join(err, own(db).WithContext(ctx).Where(clause.Where{Exprs: []clause.Expression{w.byIDs(ctx, w.later)}}).Delete(nil).Error)
}

// byKeys is the condition that finds rows by wrapped data keys.
func (w *work) byKeys(_ context.Context, list rows) clause.Expression {
	var either []clause.Expression
	for _, column := range w.model.KeyColumns() {
		wrapped := make([]any, 0, len(list))
		for _, row := range list {
			if text, err := w.model.Key(column, row).Value(); err == nil && text != nil {
				wrapped = append(wrapped, text)
			}
		}
		if len(wrapped) > 0 {
			either = append(either, clause.IN{Column: clause.Column{Name: column}, Values: wrapped})
		}
	}
	if len(either) == 0 {
		return clause.Expr{SQL: "1 = 0"} // nothing is sealed
	}
	return clause.And(clause.Or(either...))
}

func (t *table) respelled(op string, err error) error {
	if err == nil {
		return nil
	}
	return &kmsencrypted.Error{Op: op, Record: t.name, Err: err}
}
