package kmsgorm

import (
	"cmp"
	"context"
	"errors"
	"maps"
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
	if checked, err := t.checkMaps("create", stmt); checked || err != nil {
		return err
	}
	if stmt.Schema == nil || stmt.Schema.ModelType != t.rowType {
		return t.checkForeign("create", db, stmt.ReflectValue)
	}
	found, ok := t.find(stmt.ReflectValue)
	if !ok {
		return t.refused("create", "", errors.ErrUnsupported, "pass a pointer, so that the record can be sealed")
	}
	w := peekWork(db)
	if w == nil {
		w = t.begin(db, found)
	}
	if err := w.keepContext(db); err != nil {
		return err
	}
	included, restricted := t.included(stmt, true)
	if restricted && included {
		stmt.Selects = slices.Concat(stmt.Selects, t.columns)
	}
	if !included {
		w.leaveOut(stmt)
		return t.checkOverwrites(stmt)
	}
	if err := t.checkIDsWritten(stmt, found); err != nil {
		return err
	}
	upsert, isUpsert := stmt.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	seal := w.sealInsert
	if w.isUpsert = isUpsert; isUpsert {
		seal = func(db *gorm.DB) error { return w.sealUpsert(db, upsert) }
	}
	if err := seal(db); err != nil {
		return err
	}
	return w.keepSealed(db)
}

// checkIDsWritten refuses an INSERT without the ids of its records. The database would
// give the rows others, under which nothing opens.
func (t *table) checkIDsWritten(stmt *gorm.Statement, list rows) error {
	selected, restricted := stmt.SelectAndOmitColumns(true, false)
	for _, id := range t.ids {
		is, mentioned := selected[id.DBName]
		written := is || !mentioned && !restricted
		if !written && slices.ContainsFunc(list, func(row *any) bool { return t.hasID(stmt.Context, rows{row}) }) {
			return t.refused("create", id.DBName, errors.ErrUnsupported, "the record has an id, and Select or Omit leaves it out: select it, or set it to zero")
		}
	}
	return nil
}

// sealInsert seals the records to insert.
func (w *work) sealInsert(db *gorm.DB) error {
	if err := w.model.Check(w.rows...); err != nil {
		return err
	}
	w.idAssigned = !w.hasID(db.Statement.Context, w.rows)
	if !w.idAssigned {
		return w.sealNew(db.Statement)
	}
	return w.sealLater(db, w.rows)
}

// sealLater makes GORM insert rows without their encrypted columns.
func (w *work) sealLater(db *gorm.DB, later rows) error {
	stmt := db.Statement
	if r, ok := stmt.Clauses["RETURNING"]; ok {
		// It would be read into the records and replace what was set.
		returning, _ := r.Expression.(clause.Returning)
		all := len(returning.Columns) == 0
		for _, c := range returning.Columns {
			all = all || c.Name == "*" || w.managed(c.Name) != ""
		}
		if all {
			return w.refused("create", "", errors.ErrUnsupported, "RETURNING cannot include encrypted columns if the database assigns the id")
		}
	}
	w.later = later
	return w.inTransaction(db)
}

// wasRead reports whether a key of a sealed record is in the database.
func (t *table) wasRead(row *any) bool {
	write, err := t.model.Write(row)
	if err != nil {
		return false
	}
	if write.Key != field.KeyKept { // it replaces the one that was read
		return true
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

// oneByOne inserts rows that are sealed later one at a time, because their ids must
// be exact. Without RETURNING, GORM computes the ids of many rows from the first or
// last one, but on a node of a cluster the ids between belong to other rows. With
// RETURNING, PostgreSQL does not guarantee the order, and SQLite says that there is
// none.
func oneByOne(insert func(*gorm.DB)) func(*gorm.DB) {
	return func(db *gorm.DB) {
		w := peekWork(db)
		if w == nil || len(w.later) == 0 || db.Error != nil {
			insert(db)
			return
		}
		stmt, inserted := db.Statement, int64(0)
		all, selects := stmt.ReflectValue, stmt.Selects
		conflict, upsert := stmt.Clauses["ON CONFLICT"]
		for _, row := range w.rows {
			if stmt.Selects, stmt.Omits = selects, w.omits; slices.Contains(w.later, row) {
				stmt.Omits = slices.Concat(w.omits, w.notYet(stmt.Context, row))
			}
			if len(w.rows) > 1 {
				stmt.ReflectValue = valueOf(row).Elem()
			}
			stmt.SQL.Reset()
			stmt.Vars, db.RowsAffected = nil, 0
			if upsert { // GORM adds the columns to it
				stmt.Clauses["ON CONFLICT"] = conflict
			}
			insert(db)
			if db.Error != nil {
				break
			}
			if w.hasID(stmt.Context, rows{row}) || db.DryRun {
				inserted += min(db.RowsAffected, 1) // 2 is an upsert in MySQL
			}
		}
		stmt.ReflectValue, db.RowsAffected = all, inserted
	}
}

// notYet lists the columns that are sealed when the id of a row is known: all but
// computed blind indexes. No data key seals these, and they decide whether the row
// exists already.
func (w *work) notYet(ctx context.Context, row *any) []string {
	if !w.indexed {
		return w.columns
	}
	return slices.DeleteFunc(slices.Clone(w.columns), func(column string) bool {
		x, isIndex := w.fields[column].ReflectValueOf(ctx, valueOf(row)).Addr().Interface().(*field.Index)
		if !isIndex {
			return false
		}
		_, err := x.Value()
		return err == nil
	})
}

// afterCreate seals the records that had to wait for their ids.
func (p *Plugin) afterCreate(db *gorm.DB) {
	w := workOf(db)
	if w == nil {
		return
	}
	w.restore(db.Statement)
	w.explainOtherRow(db)
	if db.Error == nil && !db.DryRun {
		if err := w.created(db); err != nil {
			_ = db.AddError(err)
		}
	}
	w.end(db)
}

func (w *work) created(db *gorm.DB) error {
	ctx, n := db.Statement.Context, len(w.rows)
	if err := w.completeLater(db); err != nil {
		return w.takeLaterBack(db, err)
	}
	if err := errors.Join(w.checkInserted(db), w.checkBound(db, "create")); err != nil {
		return err
	}
	if w.uncertain { // nothing is known about what the rows hold
		w.model.Sent(w.rows...)
		return nil
	}
	if w.counted && db.RowsAffected < int64(n) {
		return w.refused("create", "", kmsencrypted.ErrConflict, "a row was inserted meanwhile")
	}
	w.confirmed(db, func() {
		w.model.Sent(w.existing...)
		w.model.Inserted(w.idAssigned, slices.DeleteFunc(slices.Clone(w.rows), func(row *any) bool { return slices.Contains(w.existing, row) })...)
	})
	if _, returning := db.Statement.Clauses["RETURNING"]; returning {
		return w.model.Open(ctx, w.rows...) // what was read again
	}
	return nil
}

// completeLater seals the rows that have ids now. A row without an id was not
// inserted because of a conflict, for which the program asked to do nothing.
func (w *work) completeLater(db *gorm.DB) error {
	ctx := db.Statement.Context
	without := func(row *any) bool { return !w.hasID(ctx, rows{row}) }
	w.rows = slices.DeleteFunc(slices.Clone(w.rows), without)
	w.later = slices.DeleteFunc(slices.Clone(w.later), without)
	columns := make([][]string, len(w.later))
	for i, row := range w.later {
		columns[i] = w.notYet(ctx, row)
	}
	if err := w.model.SealNew(ctx, w.later...); err != nil {
		return err
	}
	for i, row := range w.later {
		err := w.fillIn(db, row, columns[i])
		if w.spells && errors.Is(err, kmsencrypted.ErrConflict) { // nobody else has seen the row
			err = cmp.Or(w.checkTold(db, "create", rows{row}), err)
		}
		if w.isUpsert && errors.Is(err, kmsencrypted.ErrConflict) {
			err = w.refused("create", "", errors.ErrUnsupported, "the upsert met a row by a column that is neither its primary key nor a blind index, and that row has a data key of its own: give the record the id of that row")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fillIn writes the encrypted columns of a row that was inserted without them.
func (w *work) fillIn(db *gorm.DB, row *any, columns []string) error {
	write, err := w.model.Write(row)
	if err != nil {
		return err
	}
	values := make(map[string]any, len(write.Set))
	for _, a := range write.Set {
		if slices.Contains(columns, a.Column) || w.fields[a.Column] == nil {
			values[a.Column] = a.Value
		}
	}
	if !slices.ContainsFunc(slices.Collect(maps.Values(values)), func(v any) bool { return v != nil }) {
		return nil // they are NULL as they are, and MySQL does not count a row that stays the same
	}
	conditions := append(w.byID(db.Statement.Context, row), &unchanged{w.table, write.Where})
	result := own(db).Clauses(clause.Where{Exprs: conditions}).Updates(values)
	if result.Error == nil && result.RowsAffected != 1 {
		return w.refused("create", "", kmsencrypted.ErrConflict, "the row was changed while it was created")
	}
	return result.Error
}
