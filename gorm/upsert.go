package kmsgorm

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// sealUpsert seals the records of an INSERT with ON CONFLICT. GORM makes one when it
// saves associations, and when it saves a record that an UPDATE did not find.
func (w *work) sealUpsert(db *gorm.DB, upsert clause.OnConflict) error {
	ctx := db.Statement.Context
	upsert, err := w.resolve(db, w.takeNamed(db, upsert))
	if err != nil {
		return err
	}
	stored, err := w.storedRows(db, upsert)
	if err != nil {
		return err
	}
	w.dropAssignedIDs(stored)
	if w.overwrites(upsert) {
		w.requireSameRow(db)
		return w.sealOverwrite(db, upsert, stored)
	}
	if w.hasID(ctx, w.rows) {
		w.uncertain = true
		return w.model.Seal(ctx, w.rows...)
	}
	w.idAssigned = true
	w.indexed = true
	if err := w.model.SealIndexes(ctx, w.rows...); err != nil {
		return err
	}
	w.doNothing(db, upsert)
	return w.sealLater(db, w.rows)
}

// doNothing makes MySQL, which has no such clause, report that it did nothing.
// Otherwise GORM would give the record the id of the existing row.
func (w *work) doNothing(db *gorm.DB, upsert clause.OnConflict) {
	if db.Dialector.Name() == "mysql" && upsert.DoNothing && len(w.ids) == 1 {
		id := clause.Column{Name: w.ids[0].DBName}
		upsert.DoUpdates = clause.Set{{Column: id, Value: clause.Expr{SQL: "? + 0 * LAST_INSERT_ID(0)", Vars: []any{id}}}}
		db.Statement.AddClause(upsert)
	}
}

// storedRows reads the rows that an upsert may overwrite, and locks them. It reads
// only those that matter.
func (w *work) storedRows(db *gorm.DB, upsert clause.OnConflict) (map[string]*any, error) {
	var ask rows
	for _, row := range w.rows {
		if w.hasID(db.Statement.Context, rows{row}) && (w.overwrites(upsert) || w.model.IsUnconfirmed(row)) {
			ask = append(ask, row)
		}
	}
	if len(ask) == 0 || db.DryRun {
		return nil, nil
	}
	if err := w.inTransaction(db); err != nil {
		return nil, err
	}
	stored := make(map[string]*any)
	for part := range slices.Chunk(ask, 1000) {
		found, err := w.locked(db, w.byIDs(db.Statement.Context, part))
		if err != nil {
			return nil, err
		}
		for _, row := range found {
			stored[w.idText(row)] = row
		}
	}
	return stored, w.checkFound(ask, stored)
}

// locked reads rows and locks them, whatever conditions the struct has.
func (w *work) locked(db *gorm.DB, condition clause.Expression) (rows, error) {
	query := own(db).Unscoped().Select(slices.Concat(w.model.IDColumns(), w.columns, w.replacedColumns(), w.model.ContextColumns())).Where(clause.Where{Exprs: []clause.Expression{condition}})
	if db.Dialector.Name() != "sqlite" {
		query = query.Clauses(clause.Locking{Strength: "UPDATE"})
	}
	found := reflect.New(reflect.SliceOf(w.rowType))
	if err := query.Find(found.Interface()).Error; err != nil {
		return nil, err
	}
	locked, _ := w.find(found)
	return locked, nil
}

// resolve turns an upsert by a blind index into one by the primary key: it sets the
// ids of the records to those of the rows with the same index.
func (w *work) resolve(db *gorm.DB, upsert clause.OnConflict) (clause.OnConflict, error) {
	ctx := db.Statement.Context
	if !w.overwrites(upsert) || !w.byIndex(upsert) || db.DryRun {
		return upsert, nil
	}
	f := w.fields[w.managed(upsert.Columns[0].Name)]
	if err := errors.Join(w.inTransaction(db), w.model.SealIndexes(ctx, w.rows...)); err != nil {
		return upsert, err
	}
	byIndex := make(map[any]*any)
	var values []any
	for _, row := range w.rows {
		index := f.ReflectValueOf(ctx, valueOf(row)).Interface().(field.Index)
		if v, err := index.Value(); err == nil && v != nil {
			byIndex[asText(v)] = row
			values = append(values, index)
		}
	}
	for part := range slices.Chunk(values, 1000) {
		found, err := w.locked(db, clause.IN{Column: clause.Column{Name: f.DBName}, Values: part})
		if err != nil {
			return upsert, err
		}
		for _, now := range found {
			v, _ := f.ReflectValueOf(ctx, valueOf(now)).Interface().(field.Index).Value()
			if err := w.takeID(ctx, byIndex[asText(v)], now); err != nil {
				return upsert, err
			}
		}
	}
	upsert.Columns = w.idColumns()
	db.Statement.AddClause(upsert)
	return upsert, nil
}

// idColumns returns the primary key for ON CONFLICT.
func (w *work) idColumns() (columns []clause.Column) {
	for _, column := range w.model.IDColumns() {
		columns = append(columns, clause.Column{Name: column})
	}
	return columns
}

// takeID sets the id of a record to that of a row.
func (w *work) takeID(ctx context.Context, row, stored *any) error {
	if row == nil {
		return nil
	}
	if w.hasID(ctx, rows{row}) && w.idText(row) != w.idText(stored) {
		return w.refused("create", "", errors.ErrUnsupported, "the row with this blind index has another id, and its data key is bound to that id")
	}
	for _, id := range w.ids {
		value, _ := id.ValueOf(ctx, valueOf(stored))
		if err := id.Set(ctx, valueOf(row), value); err != nil {
			return err
		}
	}
	return nil
}

// byIndex reports whether an upsert finds rows by a blind index.
func (t *table) byIndex(upsert clause.OnConflict) bool {
	return len(upsert.Columns) == 1 && t.isIndex(upsert.Columns[0].Name)
}

func (t *table) isIndex(name string) bool {
	f := t.fields[t.managed(name)]
	return f != nil && f.FieldType == reflect.TypeFor[field.Index]()
}

func (w *work) idText(row *any) string { return strings.Join(w.model.ID(row), "\x00") }

// dropAssignedIDs clears ids that the database assigned in a transaction that was
// rolled back, because they may belong to other rows now.
func (w *work) dropAssignedIDs(stored map[string]*any) {
	for _, row := range w.rows {
		if w.model.IsUnconfirmed(row) && !w.sameKeys(row, stored[w.idText(row)]) {
			w.model.DropAssignedIDs(row)
		}
	}
}

// sameKeys reports whether a row has the data keys of a record.
func (t *table) sameKeys(row, stored *any) bool {
	if stored == nil {
		return false
	}
	for _, column := range t.model.KeyColumns() {
		f := t.fields[column]
		if !sameColumn(f.ReflectValueOf(context.Background(), valueOf(row)).Interface(), f.ReflectValueOf(context.Background(), valueOf(stored)).Interface()) {
			return false
		}
	}
	return true
}

// sealOverwrite seals records whose rows may exist. An existing row keeps its data
// key, because other columns may be sealed under it: columns that were not set, or
// that this program does not know.
func (w *work) sealOverwrite(db *gorm.DB, upsert clause.OnConflict, stored map[string]*any) error {
	ctx := db.Statement.Context
	var made, later rows
	seen := make(map[string]bool)
	for _, row := range w.rows {
		now := stored[w.idText(row)]
		if w.hasID(ctx, rows{row}) && seen[w.idText(row)] {
			return w.refused("create", "", kmsencrypted.ErrConfig, "two records of the list have one primary key: the row would be as only one of them is")
		}
		seen[w.idText(row)] = true
		switch {
		case !w.hasID(ctx, rows{row}):
			later = append(later, row)
		case now != nil:
			if err := w.adopt(ctx, row, now); err != nil {
				return err
			}
			w.existing = append(w.existing, row)
		case w.wasRead(row) && !w.model.IsUnconfirmed(row):
			return w.refused("create", "", kmsencrypted.ErrConflict, "the row was deleted")
		default:
			made = append(made, row)
		}
	}
	if err := errors.Join(w.model.Seal(ctx, w.existing...), w.sealMade(ctx, made)); err != nil {
		return err
	}
	known, err := w.knownKeys(db)
	if err != nil {
		return err
	}
	w.keepKeys(db, upsert, known)
	w.idAssigned = len(later) > 0
	if len(later) == 0 {
		return nil
	}
	w.indexed = true
	if err := w.model.SealIndexes(ctx, later...); err != nil {
		return err
	}
	return w.sealLater(db, later)
}

// sealMade seals records whose rows do not exist. Records that got a data key for the
// UPDATE that matched no row keep it.
func (w *work) sealMade(ctx context.Context, made rows) error {
	isNew := func(row *any) bool {
		for _, column := range w.model.KeyColumns() {
			if _, sealed := w.model.Key(column, row).Version(); sealed {
				return false
			}
		}
		return true
	}
	var fresh, sealed rows
	for _, row := range made {
		if isNew(row) || w.model.IsUnconfirmed(row) {
			fresh = append(fresh, row)
		} else {
			sealed = append(sealed, row)
		}
	}
	return errors.Join(w.model.SealNew(ctx, fresh...), w.model.Seal(ctx, sealed...))
}

// adopt takes the data keys of a stored row into a record, and every column that
// the program did not change: what was read of it may be out of date.
func (w *work) adopt(ctx context.Context, row, stored *any) error {
	if err := w.checkAdopted(ctx, row, stored); err != nil {
		return err
	}
	w.model.AdoptReplaced(row, stored)
	changed := w.changedColumns(row)
	wasOpen := false
	for _, column := range w.columns {
		f := w.fields[column]
		is, now := f.ReflectValueOf(ctx, valueOf(row)), f.ReflectValueOf(ctx, valueOf(stored))
		switch {
		case w.isKey(column) && !is.IsZero():
			wasOpen = wasOpen || w.model.Key(column, row).IsOpen()
			if sameColumn(is.Interface(), now.Interface()) {
				continue
			}
			text, err := w.model.Key(column, stored).Value()
			if err == nil && !w.knowsKey(row, column, text) {
				err = w.model.KeyChanged(ctx, row, column, text)
			}
			if err != nil {
				return err
			}
		case !changed(column) || w.leavesOut(column):
			is.Set(now)
		}
	}
	if wasOpen {
		return w.model.Open(ctx, row)
	}
	return nil
}

// knowsKey reports whether a key column of a record that moved was read or sent by it
// before. That is so after a rollback. Values that are not sealed yet do not matter.
func (w *work) knowsKey(row *any, column string, now any) bool {
	copied := w.model.Copy(row)
	for _, f := range w.fields {
		v := f.ReflectValueOf(context.Background(), valueOf(copied))
		if s, ok := v.Addr().Interface().(settable); ok && s.IsSet() {
			v.SetZero()
		}
	}
	write, err := w.model.Write(copied)
	return err == nil && slices.ContainsFunc(write.Where, func(a field.Assignment) bool { return a.Column == column && same(a, now) })
}

// checkAdopted refuses data keys of a row with another encryption context. A record
// that was read moves.
func (w *work) checkAdopted(ctx context.Context, row, stored *any) error {
	column := w.otherContext(ctx, row, stored)
	for _, key := range w.model.KeyColumns() {
		f := w.fields[key]
		if column != "" && f.ReflectValueOf(ctx, valueOf(row)).IsZero() && !f.ReflectValueOf(ctx, valueOf(stored)).IsZero() {
			return w.refused("create", column, errors.ErrUnsupported, "the stored row has another encryption context: read the record, change it and save it")
		}
	}
	return nil
}

// changedColumns returns the columns that the program changed. In a record that is
// not sealed, it asks the fields.
func (w *work) changedColumns(row *any) func(column string) bool {
	write, err := w.model.Write(row)
	return func(column string) bool {
		if slices.ContainsFunc(write.Set, func(a field.Assignment) bool { return a.Column == column }) {
			return true
		}
		s, isField := w.fields[column].ReflectValueOf(context.Background(), valueOf(row)).Addr().Interface().(settable)
		return isField && (s.IsSet() || err != nil && s.IsNull())
	}
}

// overwrites reports whether an upsert writes encrypted columns of stored rows. One by
// a blind index does, even if it names none of them: its rows have to be found first.
func (t *table) overwrites(upsert clause.OnConflict) bool {
	if upsert.UpdateAll || len(upsert.DoUpdates) == 0 {
		return upsert.UpdateAll
	}
	return t.byIndex(upsert) || slices.ContainsFunc(upsert.DoUpdates, t.isExcluded)
}

// isExcluded reports whether an upsert assigns an encrypted column from the same one
// of the row to insert.
func (t *table) isExcluded(a clause.Assignment) bool {
	from, _ := a.Value.(clause.Column)
	column := t.managed(a.Column.Name)
	return column != "" && from.Table == "excluded" && t.managed(from.Name) == column
}

// takeNamed makes an upsert that names encrypted columns write all of them: the key,
// the indexes and the record's seal belong to those named, and a record takes the rest
// from its stored row first.
func (w *work) takeNamed(db *gorm.DB, upsert clause.OnConflict) clause.OnConflict {
	if upsert.UpdateAll || !w.overwrites(upsert) {
		return upsert
	}
	var plain clause.Set
	w.named = []string{}
	for _, a := range upsert.DoUpdates {
		if w.isExcluded(a) {
			w.named = append(w.named, w.managed(a.Column.Name))
		} else {
			plain = append(plain, a)
		}
	}
	upsert.DoUpdates = append(plain, clause.AssignmentColumns(w.columns)...)
	if len(upsert.Columns) == 0 { // SQLite would take any unique column
		upsert.Columns = w.idColumns()
	}
	db.Statement.AddClause(upsert)
	return upsert
}

// leavesOut reports whether an upsert that names encrypted columns keeps this one.
func (w *work) leavesOut(column string) bool {
	return w.named != nil && !slices.Contains(w.named, column)
}

// knownKeys returns, by key column, what the locked rows have there where an upsert
// writes another wrap of the same data key, because the record moves.
func (w *work) knownKeys(db *gorm.DB) (map[string][]any, error) {
	known := make(map[string][]any)
	for _, row := range w.existing {
		write, err := w.model.Write(row)
		if err != nil {
			return nil, err
		}
		if write.Key != field.KeyKept {
			return nil, w.refused("create", "", errors.ErrUnsupported, "the record gets a new data key: save it by itself")
		}
		if err := w.mayBind(db, rows{row}, write); err != nil {
			return nil, err
		}
		for _, a := range write.Where {
			for _, value := range a.Values() {
				if value != nil && w.isKey(a.Column) {
					known[a.Column] = append(known[a.Column], value)
				}
			}
		}
	}
	return known, nil
}

// keepKeys makes an upsert leave a row alone that was inserted meanwhile, with a
// data key of its own. Nothing is sealed in a row without one. MySQL has no such
// condition, but locks where rows would be.
func (w *work) keepKeys(db *gorm.DB, upsert clause.OnConflict, known map[string][]any) {
	if db.Dialector.Name() == "mysql" {
		return
	}
	dialect := dialectOf(db)
	if dialect.Check() != nil {
		return
	}
	for _, column := range w.model.KeyColumns() {
		here := clause.Column{Table: clause.CurrentTable, Name: column}
		upsert.Where.Exprs = append(slices.Clip(upsert.Where.Exprs), clause.Expr{
			SQL:  "(? IS NULL OR ? " + dialect.Same() + " ? OR ?)",
			Vars: []any{here, here, clause.Column{Table: "excluded", Name: column}, clause.IN{Column: here, Values: known[column]}},
		})
	}
	w.counted = true
	db.Statement.AddClause(upsert)
}
