package kmsgorm

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// beforeUpdate seals what was set in a record. GORM never writes an encrypted
// column itself: it would write each that is not zero, loaded or not.
func (t *table) beforeUpdate(db *gorm.DB) error {
	stmt := db.Statement
	if err := errors.Join(t.checkConditions(db), t.checkSet(stmt)); err != nil {
		return err
	}
	if checked, err := t.checkMaps("update", stmt.Dest); checked || err != nil {
		return err
	}
	values := reflect.ValueOf(stmt.Dest)
	for values.Kind() == reflect.Pointer {
		values = values.Elem()
	}
	if values.Kind() != reflect.Struct {
		return nil // an error of GORM's
	}
	if values.Type() != t.rowType || stmt.Schema == nil || stmt.Schema.ModelType != t.rowType {
		return t.checkForeign("update", db, values)
	}
	w := t.begin(db, nil)
	w.isSave = slices.Contains(stmt.Selects, "*") && len(whereOf(stmt).Exprs) == 0
	included, _ := t.included(stmt, false)
	w.leaveOut(stmt)
	if !included {
		return nil
	}
	found, ok := t.find(stmt.ReflectValue)
	if !ok || len(found) != 1 || len(t.ids) == 0 || !t.hasID(stmt.Context, found) {
		return t.checkMany(stmt.Context, values)
	}
	if stmt.Dest != stmt.Model {
		if err := t.transfer(stmt.Context, values, valueOf(found[0])); err != nil {
			return err
		}
	}
	w.rows = found
	return w.sealUpdate(db)
}

// sealUpdate adds what a record has to write to what GORM makes of the rest.
func (w *work) sealUpdate(db *gorm.DB) error {
	stmt := db.Statement
	if err := w.model.Seal(stmt.Context, w.rows...); err != nil {
		return err
	}
	w.assigned = callbacks.ConvertToAssignments(stmt)
	write, err := w.model.Write(w.rows[0], w.assignedNames()...)
	if err != nil {
		return err
	}
	if write.Key != field.KeyKept && !db.DryRun {
		if err := w.lockForKey(db, &write); err != nil {
			if w.begun {
				db.Statement.ConnPool.(gorm.TxCommitter).Rollback()
				db.Statement.ConnPool, w.begun = db.ConnPool, false
			}
			return err
		}
	}
	w.change, w.condition = &write, &unchanged{write.Where}
	if len(write.Where) > 0 {
		stmt.AddClause(clause.Where{Exprs: []clause.Expression{w.condition}})
	}
	w.assign(stmt)
	return nil
}

// lockForKey prepares for giving a row another data key: columns that the table has
// by now and the model does not know must not be lost with the old one.
func (w *work) lockForKey(db *gorm.DB, write *field.Write) error {
	if err := w.inTransaction(db); err != nil {
		return err
	}
	stmt := db.Statement
	table := sqldialect.Table{Dialect: dialects[db.Dialector.Name()], Name: stmt.Table}
	var id []any
	for _, f := range w.ids {
		value, _ := f.ValueOf(stmt.Context, valueOf(w.rows[0]))
		table.IDs, id = append(table.IDs, f.DBName), append(id, value)
	}
	if table.Dialect == 0 {
		return w.refused("update", "", errors.ErrUnsupported, "a new data key in a database of the dialect "+db.Dialector.Name())
	}
	existing, err := table.LockedColumns(stmt.Context, stmt.ConnPool, id)
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

var dialects = map[string]sqldialect.Dialect{"postgres": sqldialect.Postgres, "mysql": sqldialect.MariaDB, "sqlite": sqldialect.SQLite}

// assign gives GORM what to set. An empty list sets the id to itself, so that
// Save learns whether the row is there.
func (w *work) assign(stmt *gorm.Statement) {
	var set clause.Set
	for _, a := range w.assigned { // the model writes the plain columns that it replaces
		if !slices.ContainsFunc(w.change.Set, func(own field.Assignment) bool { return own.Column == a.Column.Name }) {
			set = append(set, a)
		}
	}
	for _, a := range w.change.Set {
		set = append(set, clause.Assignment{Column: clause.Column{Name: a.Column}, Value: a.Value})
	}
	stmt.AddClause(set)
}

// checkMany refuses encrypted values for more than one record, or for one that
// is not known.
func (t *table) checkMany(ctx context.Context, values reflect.Value) error {
	for _, column := range t.columns {
		if _, zero := t.fields[column].ValueOf(ctx, values); !zero {
			return t.refused("update", column, errors.ErrUnsupported, "one ciphertext does not serve many records: save each record")
		}
	}
	return nil
}

// settable is a *field.Of of any type.
type settable interface {
	IsSet() bool
	IsNull() bool
	IsLoaded() bool
	SetNull()
}

// transfer sets in a record what was set in a struct of new values.
func (t *table) transfer(ctx context.Context, values, row reflect.Value) error {
	for _, id := range t.ids {
		is, _ := id.ValueOf(ctx, row)
		if to, zero := id.ValueOf(ctx, values); !zero && !reflect.DeepEqual(to, is) {
			return t.refused("update", id.DBName, errors.ErrUnsupported, "the data key is bound to the id: insert a new record instead")
		}
	}
	for _, column := range t.columns {
		f := t.fields[column]
		// A copy, because the struct may have been passed by value.
		from := reflect.New(f.FieldType)
		from.Elem().Set(f.ReflectValueOf(ctx, values))
		value, ok := from.Interface().(settable)
		to := f.ReflectValueOf(ctx, row).Addr()
		switch {
		case from.Elem().IsZero():
		case !ok || value.IsLoaded() && !value.IsSet() && !value.IsNull():
			return t.refused("update", column, errors.ErrUnsupported, "it holds the ciphertext of another record")
		case value.IsNull():
			to.Interface().(settable).SetNull()
		default:
			to.MethodByName("Set").Call(from.MethodByName("Get").Call(nil)[:1])
		}
	}
	return nil
}

// afterUpdate finds out what it means if no row was updated.
func (p *Plugin) afterUpdate(db *gorm.DB) {
	w := workOf(db)
	if w == nil {
		return
	}
	if db.Error != nil && w.change != nil {
		w.model.Sent(w.rows...) // the answer may be what got lost
	}
	if db.Error == nil && !db.DryRun && w.change != nil {
		if err := w.updated(db); err != nil {
			_ = db.AddError(err)
		}
	}
	if w.change != nil {
		delete(db.Statement.Clauses, "SET")
	}
	w.restore(db.Statement)
	w.end(db)
}

func (w *work) updated(db *gorm.DB) error {
	if db.RowsAffected == 0 {
		matched, err := w.notFound(db)
		if !matched || err != nil {
			return err
		}
	}
	w.confirmed(db, func() { w.model.Sent(w.rows...) })
	if _, returning := db.Statement.Clauses["RETURNING"]; returning {
		return w.model.Open(db.Statement.Context, w.rows...) // what was read again
	}
	return nil
}

// notFound reads the row again: it may be gone, or rewrapped - then the update is
// tried once more - or changed.
func (w *work) notFound(db *gorm.DB) (matched bool, err error) {
	if len(w.change.Where) == 0 && !w.isSave {
		return false, nil // a condition of the program's
	}
	ctx, row := db.Statement.Context, w.rows[0]
	now := make(map[string]any)
	found := own(db).Select(w.idAndKeys()).Where(clause.Where{Exprs: w.byID(ctx, row)}).Limit(1).Find(&now)
	switch {
	case found.Error != nil:
		return false, found.Error
	case found.RowsAffected == 0 && w.wasRead(row) && !w.model.IsUnconfirmed(row):
		return false, w.refused("update", "", kmsencrypted.ErrConflict, "the row was deleted")
	case found.RowsAffected == 0:
		return false, nil // Save inserts it
	case len(w.change.Where) == 0:
		db.RowsAffected = 1 // MySQL counts rows that changed
		return true, nil
	}
	for _, a := range w.change.Where {
		if f := w.fields[a.Column]; f == nil || f.FieldType != keyType || same(a, now[a.Column]) {
			continue
		}
		err := w.model.KeyChanged(ctx, row, a.Column, now[a.Column])
		if errors.Is(err, kmsencrypted.ErrConflict) && w.isSave && w.model.IsUnconfirmed(row) {
			return false, nil // its id went to another row: Save inserts it
		}
		if err != nil {
			return false, err
		}
	}
	return true, w.again(db)
}

// assignedNames are the columns that GORM sets itself.
func (w *work) assignedNames() (names []string) {
	for _, a := range w.assigned {
		names = append(names, a.Column.Name)
	}
	return names
}

// again repeats the update for a record whose key was rewrapped meanwhile.
func (w *work) again(db *gorm.DB) error {
	write, err := w.model.Write(w.rows[0], w.assignedNames()...)
	if err != nil {
		return err
	}
	w.change = &write
	w.condition.columns = write.Where
	w.assign(db.Statement)
	db.Statement.SQL.Reset()
	db.Statement.Vars = nil
	db.Callback().Update().Get("gorm:update")(db)
	if db.Error == nil && db.RowsAffected == 0 {
		return w.refused("update", "", kmsencrypted.ErrConflict, "no row matched")
	}
	return nil
}

func (w *work) idAndKeys() (columns []string) {
	for _, id := range w.ids {
		columns = append(columns, id.DBName)
	}
	for _, a := range w.change.Where {
		columns = append(columns, a.Column)
	}
	return columns
}

// same compares what a column held with what it holds.
func same(was field.Assignment, now any) bool {
	if b, ok := now.([]byte); ok {
		now = string(b)
	}
	return slices.Contains(was.Values(), driver.Value(now))
}

func whereOf(stmt *gorm.Statement) clause.Where {
	where, _ := stmt.Clauses["WHERE"].Expression.(clause.Where)
	return where
}
