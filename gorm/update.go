package kmsgorm

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// sealing is the last of the clauses that the fields of a struct add to an UPDATE.
// All callbacks and the clauses of other fields, such as a soft delete or an
// optimistic lock, come before it, and right after it GORM would list the columns.
type sealing struct{ *table }

// Name implements [clause.Interface].
func (sealing) Name() string { return "" }

// Build implements [clause.Interface].
func (sealing) Build(clause.Builder) {}

// MergeClause implements [clause.Interface].
func (sealing) MergeClause(*clause.Clause) {}

// ModifyStatement implements [gorm.StatementModifier].
func (sealing) ModifyStatement(stmt *gorm.Statement) {
	w := peekWork(stmt.DB)
	if w == nil || stmt.SQL.Len() > 0 || stmt.DB.Error != nil {
		return
	}
	if err := w.seal(stmt.DB); err != nil {
		_ = stmt.AddError(err)
	}
}

// seal lists the columns of an UPDATE. GORM must not write encrypted columns
// itself: it would write each that is not zero, loaded or not.
func (w *work) seal(db *gorm.DB) error {
	stmt := db.Statement
	if set, ok := stmt.Clauses["SET"].Expression.(clause.Set); ok { // the program's own
		return errors.Join(w.checkAssignments("update", set), w.checkContext("update", set))
	}
	if err := w.target(db); err != nil {
		return err
	}
	if w.ownSet != nil {
		w.assigned = w.ownSet.plain
	} else {
		stmt.Dest = w.withoutManaged(stmt.Dest)
		w.leaveOut(stmt)
		w.assigned = callbacks.ConvertToAssignments(stmt)
		w.findZeros(stmt)
	}
	if err := errors.Join(w.checkAssigned(), w.checkReplaced()); err != nil {
		return err
	}
	if len(w.rows) == 0 {
		return w.checkContext("update", w.assigned) // nobody knows which records move
	}
	if err := w.assignContext(stmt.Context); err != nil {
		return err
	}
	return w.sealRecord(db)
}

// findZeros completes the condition for the primary key of a record, of which GORM
// leaves out what is zero: it would update other rows.
func (w *work) findZeros(stmt *gorm.Statement) {
	found, ok := w.find(reflect.ValueOf(stmt.Model))
	if !ok || len(found) != 1 || len(w.ids) == 1 || !w.hasID(stmt.Context, found) {
		return
	}
	for _, id := range w.ids {
		if value, zero := id.ValueOf(stmt.Context, valueOf(found[0])); zero {
			stmt.AddClause(clause.Where{Exprs: []clause.Expression{clause.Eq{Column: clause.Column{Table: clause.CurrentTable, Name: id.DBName}, Value: value}}})
		}
	}
}

// target finds the record that is written: the program's own, or a copy of it
// with the new values that Updates and Update were given. It keeps its copy while
// hooks may change it.
func (w *work) target(db *gorm.DB) error {
	stmt := db.Statement
	given, err := w.givenIn(stmt)
	if err != nil {
		return err
	}
	if included, _ := w.included(stmt, false); !included {
		w.rows = nil
		return w.checkID(stmt, nil)
	}
	record, err := w.record(db, given)
	if err != nil {
		return err
	}
	if record == nil {
		return w.checkMany(stmt, given)
	}
	if err := w.checkID(stmt, record); err != nil {
		return err
	}
	if w.whole {
		w.rows = rows{record}
		return nil
	}
	return w.copyWith(stmt, valueOf(record).Elem(), given)
}

// record returns the one record of an update: that of the program, or the one that
// conditions pin if encrypted columns of it are given. It returns nil if there is none.
func (w *work) record(db *gorm.DB, given map[string]any) (*any, error) {
	stmt := db.Statement
	found, ok := w.find(reflect.ValueOf(stmt.Model))
	if w.ownSet == nil && ok && len(found) == 1 && len(w.ids) > 0 && w.hasID(stmt.Context, found) {
		return found[0], nil
	}
	if w.copyOf.IsValid() {
		return rowOf(w.copyOf), nil
	}
	pinned := w.pinned(stmt)
	if pinned == nil || len(given) == 0 {
		return nil, nil
	}
	return pinned, w.readPinned(db, pinned)
}

// copyWith makes a copy of a record in which only the given values are set.
func (w *work) copyWith(stmt *gorm.Statement, record reflect.Value, given map[string]any) error {
	ctx := stmt.Context
	if !w.copyOf.IsValid() {
		w.copyOf = record
		w.rows = rows{w.model.Copy(rowOf(record))}
		for _, column := range w.pending() {
			w.fields[column].ReflectValueOf(ctx, valueOf(w.rows[0])).SetZero()
		}
	}
	row := valueOf(w.rows[0])
	w.assignPlain(stmt, row)
	for column, v := range given {
		if err := w.assign(ctx, row, column, v); err != nil {
			return err
		}
		if !slices.Contains(w.given, column) {
			w.given = append(w.given, column)
		}
	}
	return nil
}

// pending lists the fields that were set in a record and are not in the database.
func (w *work) pending() (columns []string) {
	for _, column := range w.columns {
		s, ok := w.fields[column].ReflectValueOf(context.Background(), valueOf(w.rows[0])).Addr().Interface().(settable)
		if ok && s.IsSet() {
			s.SetNull() // so that Write lists it
			columns = append(columns, column)
		}
	}
	write, err := w.model.Write(w.rows[0])
	if err != nil {
		return columns
	}
	for _, a := range write.Set {
		if f := w.fields[a.Column]; f != nil && f.FieldType != keyType && !slices.Contains(columns, a.Column) {
			columns = append(columns, a.Column)
		}
	}
	return columns
}

// assignPlain sets the new values of plain columns in the copy, because its
// encryption context may depend on them.
func (w *work) assignPlain(stmt *gorm.Statement, row reflect.Value) {
	values := reflect.Indirect(reflect.ValueOf(stmt.Dest))
	for _, f := range stmt.Schema.Fields {
		if f.DBName == "" || w.fields[f.DBName] != nil || f.PrimaryKey {
			continue
		}
		var v any
		switch dest := stmt.Dest.(type) {
		case map[string]any:
			v = dest[f.Name]
			if by, ok := dest[f.DBName]; ok {
				v = by
			}
		default:
			if values.Type() == w.rowType {
				v, _ = f.ValueOf(stmt.Context, values)
			}
		}
		if _, isSQL := v.(clause.Expression); v != nil && !isSQL && !reflect.ValueOf(v).IsZero() {
			_ = f.Set(stmt.Context, row, v)
		}
	}
}

// givenIn lists the values that an update assigns to managed columns by a map or a
// struct.
func (w *work) givenIn(stmt *gorm.Statement) (map[string]any, error) {
	given := make(map[string]any)
	if w.ownSet != nil {
		return w.ownSet.given, nil
	}
	if w.whole {
		return given, nil
	}
	dest := reflect.Indirect(reflect.ValueOf(stmt.Dest))
	switch values := dest.Interface().(type) {
	case map[string]any:
		for name, v := range values {
			if column := cmp.Or(w.managed(name), w.replacing(name)); column != "" {
				given[column] = v
			}
		}
	default:
		if dest.Type() != w.rowType {
			return given, w.checkForeign("update", stmt.DB, dest)
		}
		for _, column := range w.columns {
			if v := w.fields[column].ReflectValueOf(stmt.Context, dest); !v.IsZero() {
				given[column] = v.Interface()
			}
		}
		for column, old := range w.replaced {
			if v, zero := old.ValueOf(stmt.Context, dest); !zero && given[column] == nil {
				given[column] = v
			}
		}
	}
	return given, nil
}

// checkMany refuses encrypted values for more than one record, or for an unknown one.
func (w *work) checkMany(stmt *gorm.Statement, given map[string]any) error {
	for column := range given {
		err := errors.ErrUnsupported
		if _, isMap := stmt.Dest.(map[string]any); isMap {
			err = kmsencrypted.ErrUnsealed
		}
		return w.refused("update", column, err, "one ciphertext does not serve many records: "+saveRecord+", or name it by its primary key alone, as in Where(\"id = ?\", id)")
	}
	w.rows = nil
	return w.checkID(stmt, nil)
}

// checkID refuses new values with another id than that of the record.
func (w *work) checkID(stmt *gorm.Statement, record *any) error {
	if w.whole {
		return nil
	}
	for _, id := range w.ids {
		to, ok := idIn(stmt, id)
		if !ok {
			continue
		}
		if record != nil {
			if is, _ := id.ValueOf(stmt.Context, valueOf(record)); reflect.DeepEqual(is, to) {
				continue
			}
		}
		return w.refused("update", id.DBName, errors.ErrUnsupported, "the data key is bound to the id: insert a new record instead")
	}
	return nil
}

// idIn returns the id among new values.
func idIn(stmt *gorm.Statement, id *schema.Field) (value any, ok bool) {
	dest := reflect.Indirect(reflect.ValueOf(stmt.Dest))
	if values, isMap := dest.Interface().(map[string]any); isMap {
		for name, v := range values {
			if id.Name == name || strings.EqualFold(id.DBName, plainName(name)) {
				row := reflect.New(id.Schema.ModelType)
				if err := id.Set(stmt.Context, row, v); err != nil {
					return v, true
				}
				value, _ = id.ValueOf(stmt.Context, row)
				return value, true
			}
		}
		return nil, false
	}
	if dest.Type() != id.Schema.ModelType {
		return nil, false
	}
	value, zero := id.ValueOf(stmt.Context, dest)
	return value, !zero
}

// withoutManaged returns a map of values without managed columns, in any spelling.
func (t *table) withoutManaged(dest any) any {
	values, ok := dest.(map[string]any)
	if p, isPointer := dest.(*map[string]any); isPointer {
		values, ok = *p, true
	}
	if !ok {
		return dest
	}
	values = maps.Clone(values)
	maps.DeleteFunc(values, func(name string, _ any) bool { return t.managed(name) != "" })
	return values
}

// checkAssigned refuses what GORM would write of managed columns all the same.
func (w *work) checkAssigned() error {
	return w.checkAssignments("update", slices.DeleteFunc(slices.Clone(w.assigned), func(a clause.Assignment) bool {
		return w.isID(a.Column.Name) || w.replacing(a.Column.Name) != ""
	}))
}

// checkReplaced refuses to write a plain column without the encrypted one that
// replaces it. A record that is saved as a whole writes both.
func (w *work) checkReplaced() error {
	for _, a := range w.assigned {
		column := w.replacing(a.Column.Name)
		if column != "" && (len(w.rows) == 0 || !w.whole && !slices.Contains(w.given, column)) {
			return w.refuseReplaced("update", column)
		}
	}
	return nil
}

// sealRecord adds the columns that a record writes to those that GORM writes.
func (w *work) sealRecord(db *gorm.DB) error {
	stmt := db.Statement
	if err := w.model.Seal(stmt.Context, w.rows...); err != nil {
		return err
	}
	write, err := w.model.Write(w.rows[0], w.assignedNames()...)
	if err != nil {
		return err
	}
	if write.Key != field.KeyKept && !db.DryRun {
		if err := w.lockForKey(db, &write); err != nil {
			return err
		}
	}
	w.change, w.condition = &write, &unchanged{w.table, write.Where}
	if err := w.mayBind(db, w.rows, write, w.assignedNames()...); err != nil {
		return err
	}
	if len(write.Where) > 0 {
		stmt.AddClause(clause.Where{Exprs: []clause.Expression{w.condition}})
	}
	w.setColumns(stmt)
	return nil
}

// assignedNames returns the columns that GORM sets itself.
func (w *work) assignedNames() (names []string) {
	for _, a := range w.assigned {
		names = append(names, a.Column.Name)
	}
	return names
}

// setColumns sets the assignments of the statement. If there is none, it sets the id
// to itself, as GORM would write unchanged columns.
func (w *work) setColumns(stmt *gorm.Statement) {
	var set clause.Set
	for _, a := range w.assigned { // the model writes the plain columns that it replaces
		isSet := slices.ContainsFunc(w.change.Set, func(own field.Assignment) bool { return own.Column == a.Column.Name })
		if !isSet && !slices.Contains(w.change.Omit, a.Column.Name) {
			set = append(set, a)
		}
	}
	for _, a := range w.change.Set {
		set = append(set, clause.Assignment{Column: clause.Column{Name: a.Column}, Value: w.bound(a.Column, a.Value)})
	}
	if len(set) > 0 || len(w.given) > 0 || w.whole && (slices.Contains(stmt.Selects, "*") || w.hasLoaded()) {
		stmt.AddClause(set)
	}
}

// bound returns a value that the model computed, for a statement. For an encrypted
// column it is marked as stored, so that the guard does not take it for a plaintext.
func (t *table) bound(column string, v driver.Value) any {
	if v == nil || !t.isSecret(column) {
		return v
	}
	return stored{v}
}

// hasLoaded reports whether the record has any encrypted column to write.
func (w *work) hasLoaded() bool {
	return slices.ContainsFunc(w.columns, func(column string) bool {
		_, zero := w.fields[column].ValueOf(context.Background(), valueOf(w.rows[0]))
		return !zero
	})
}

// afterUpdate finds out why no row was updated, and records the result.
func (p *Plugin) afterUpdate(db *gorm.DB) {
	w := workOf(db)
	if w == nil {
		return
	}
	if w.change != nil && !db.DryRun {
		if db.Error != nil {
			w.model.Sent(w.rows...) // perhaps only the answer was lost
		} else if err := w.updated(db); err != nil {
			_ = db.AddError(err)
		}
	}
	if w.change != nil {
		delete(db.Statement.Clauses, "SET")
	}
	db.Statement.Dest = w.dest
	w.restore(db.Statement)
	w.end(db)
}

func (w *work) updated(db *gorm.DB) error {
	if err := w.whyNone(db); err != nil || db.RowsAffected == 0 {
		return err
	}
	if err := w.checkBound(db, "update"); err != nil {
		return err
	}
	w.confirmed(db, func() { w.model.Sent(w.rows...) })
	if _, returning := db.Statement.Clauses["RETURNING"]; returning {
		found, _ := w.find(db.Statement.ReflectValue)
		return w.model.Open(db.Statement.Context, found...) // columns that RETURNING read again
	}
	return nil
}

// publish copies the written columns into the program's record.
func (w *work) publish() {
	if !w.copyOf.IsValid() {
		return
	}
	for _, column := range w.columns {
		f := w.fields[column]
		from := f.ReflectValueOf(context.Background(), valueOf(w.rows[0]))
		to := f.ReflectValueOf(context.Background(), w.copyOf.Addr())
		if !w.isChanged(column, from) {
			continue
		}
		if !w.published || sameColumn(to.Interface(), from.Interface()) { // a hook may have set it since
			to.Set(from)
		}
	}
	w.published = true
}

// isChanged reports whether a column of the copy was written, or its key opened.
func (w *work) isChanged(column string, copied reflect.Value) bool {
	switch f := copied.Addr().Interface().(type) {
	case settable:
		return slices.Contains(w.given, column)
	case *field.Key:
		if f.IsOpen() {
			return true
		}
	}
	return slices.ContainsFunc(w.change.Set, func(a field.Assignment) bool { return a.Column == column })
}
