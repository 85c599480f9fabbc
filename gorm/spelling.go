package kmsgorm

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/spelling"
)

// See package spelling for why a row must be asked for the id that it has. Only some
// of GORM's drivers have RETURNING, so a query of its own asks.

// keepIDs copies records with ids before their INSERT, which may write other ids
// into them, and begins a transaction that takes the rows back.
func (w *work) keepIDs(db *gorm.DB) error {
	if !w.spellsIDs || db.DryRun {
		return nil
	}
	for _, row := range w.rows {
		if !slices.Contains(w.later, row) && !slices.Contains(w.existing, row) {
			w.asSealed = append(w.asSealed, w.model.Copy(row))
		}
	}
	if len(w.asSealed) == 0 {
		return nil
	}
	return w.inTransaction(db)
}

// checkInserted compares the ids of rows with those that their records were sealed
// for. Rows that would never open are deleted, because the program may go on with its
// own transaction; but not where they may have been there before.
func (w *work) checkInserted(db *gorm.DB) error {
	if len(w.asSealed) == 0 {
		return nil
	}
	list := w.asSealed
	told, err := w.idsOf(db, list, w.byIDs)
	if err == nil && w.uncertain {
		list, told, err = w.ours(db, list, told)
	}
	if err != nil {
		return err
	}
	err = spelling.Check(db.Statement.Context, w.model, list, told)
	if err == nil {
		return nil
	}
	err = w.respelled("create", err)
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
	told, err = w.idsOf(db, list, w.byKeys)
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

// checkFirstKey is for an update that binds a row to its id: nobody may have read it.
func (w *work) checkFirstKey(db *gorm.DB) error {
	if !w.spellsIDs || db.DryRun || !spelling.IsFirstKey(w.model, *w.change) {
		return nil
	}
	told, err := w.idsOf(db, w.rows, w.byIDs)
	if err != nil || len(told) == 0 { // the UPDATE will find none
		return err
	}
	if err := spelling.Check(db.Statement.Context, w.model, w.rows, told); err != nil {
		return w.respelled("update", err)
	}
	return nil
}

// idsOf reads the ids and the keys of rows as the database has them.
func (w *work) idsOf(db *gorm.DB, list rows, condition func(context.Context, rows) clause.Expression) (told rows, err error) {
	columns := slices.Concat(w.model.IDColumns(), w.model.KeyColumns())
	for part := range slices.Chunk(list, 1000) {
		query := own(db).Unscoped().Select(columns).Where(clause.Where{Exprs: []clause.Expression{condition(db.Statement.Context, part)}})
		result, err := query.Rows()
		if err != nil {
			return nil, err
		}
		for result.Next() {
			row := rowOf(reflect.New(w.rowType).Elem())
			if err := w.model.Scan(result, row); err != nil {
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
	return &kmsencrypted.Error{Op: op, Record: t.name, Err: err}
}
