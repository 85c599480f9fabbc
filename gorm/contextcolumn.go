package kmsgorm

import (
	"context"
	"database/sql/driver"
	"errors"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
)

// The data key of a row is wrapped under the columns tagged context. A statement that
// sets one of them without the key column leaves a row that nothing opens, so it is
// refused unless it writes a record.

// inContext returns the column of the encryption context that a name refers to.
func (t *table) inContext(name string) string {
	for column, f := range t.context {
		if f.Name == name || strings.EqualFold(column, plainName(name)) {
			return column
		}
	}
	return ""
}

// refuseMove refuses to set a column of the encryption context.
func (t *table) refuseMove(op, column string) error {
	return t.refused(op, column, errors.ErrUnsupported, "the statement sets a column of the encryption context: read each record, and save it by itself")
}

// checkContext refuses assignments to columns of the encryption context.
func (t *table) checkContext(op string, set clause.Set) error {
	for _, a := range set {
		if column := t.inContext(a.Column.Name); column != "" {
			return t.refuseMove(op, column)
		}
	}
	return nil
}

// moves reports whether a statement changes stored rows: an UPDATE, or an upsert of
// all columns.
func moves(op string, stmt *gorm.Statement) bool {
	upsert, _ := stmt.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	return op == "update" || upsert.UpdateAll
}

// writesColumn reports whether a statement writes a column of a struct. Select
// includes zeros, which an UPDATE leaves out otherwise.
func writesColumn(op string, stmt *gorm.Statement, column string, zero bool) bool {
	selected, restricted := stmt.SelectAndOmitColumns(op == "create", true)
	is, mentioned := selected[column]
	return is || !mentioned && !restricted && (op == "create" || !zero)
}

// checkOverwrites refuses an upsert of all columns but the encrypted ones.
func (t *table) checkOverwrites(stmt *gorm.Statement) error {
	for column := range t.context {
		if moves("create", stmt) && writesColumn("create", stmt, column, false) {
			return t.refuseMove("create", column)
		}
	}
	return nil
}

// assignContext gives a copy of a record the values that its UPDATE assigns to columns
// of the encryption context, zeros too. It refuses SQL, whose value is not known.
func (w *work) assignContext(ctx context.Context) error {
	for i, a := range w.assigned {
		column := w.inContext(a.Column.Name)
		if column == "" || w.whole {
			continue
		}
		w.assigned[i].Column = clause.Column{Name: column} // which the program may spell otherwise
		if isSQL(a.Value) || w.context[column].Set(ctx, valueOf(w.rows[0]), a.Value) != nil {
			return w.refused("update", column, errors.ErrUnsupported, "the new value of a column of the encryption context is not known before the statement runs")
		}
	}
	return nil
}

// isSQL reports whether GORM puts a value into the text of a statement.
func isSQL(v any) bool {
	switch v.(type) {
	case clause.Expression, gorm.Valuer, *gorm.DB, clause.Column, clause.Table:
		return true
	}
	return false
}

// mayKeepContext reports whether an upsert of records by their primary key assigns a
// column from the row to insert: see keepContext.
func (t *table) mayKeepContext(stmt *gorm.Statement, a clause.Assignment) bool {
	upsert, _ := stmt.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	other := slices.ContainsFunc(upsert.Columns, func(c clause.Column) bool { return !t.isID(c.Name) && c.Name != clause.PrimaryKey })
	from, _ := a.Value.(clause.Column)
	_, areRecords := t.find(stmt.ReflectValue)
	return areRecords && len(upsert.Columns) > 0 && !other && from.Table == "excluded" && t.inContext(from.Name) == t.inContext(a.Column.Name)
}

// keepContext lets an upsert assign columns of the encryption context from the rows to
// insert, as GORM does for foreign keys, if every stored row has the same values. Then
// the statement keeps what the row has.
func (w *work) keepContext(db *gorm.DB) error {
	upsert, _ := db.Statement.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	set := slices.Clone(upsert.DoUpdates)
	kept := false
	for i, a := range set {
		if column := w.inContext(a.Column.Name); column != "" {
			set[i].Value, kept = clause.Column{Table: clause.CurrentTable, Name: column}, true
		}
	}
	if !kept || db.DryRun {
		return nil
	}
	var known rows
	for _, row := range w.rows {
		if w.hasID(db.Statement.Context, rows{row}) {
			known = append(known, row)
		}
	}
	if err := w.checkSameContext(db, upsert.DoUpdates, known); err != nil {
		return err
	}
	upsert.DoUpdates = set
	db.Statement.AddClause(upsert)
	return nil
}

// checkSameContext refuses assignments that would move one of the stored rows.
func (w *work) checkSameContext(db *gorm.DB, set clause.Set, known rows) error {
	if len(known) == 0 {
		return nil
	}
	if err := w.inTransaction(db); err != nil {
		return err
	}
	for part := range slices.Chunk(known, 1000) {
		found, err := w.locked(db, w.byIDs(db.Statement.Context, part))
		if err != nil {
			return err
		}
		stored := make(map[string]*any, len(found))
		for _, row := range found {
			stored[w.idText(row)] = row
		}
		for _, row := range part {
			if now := stored[w.idText(row)]; now != nil && w.otherContext(db.Statement.Context, row, now) != "" {
				return w.checkContext("create", set)
			}
		}
	}
	return nil
}

// otherContext returns a column of the encryption context in which two records differ.
func (t *table) otherContext(ctx context.Context, a, b *any) string {
	for column, f := range t.context {
		if !reflect.DeepEqual(plainOf(ctx, f, a), plainOf(ctx, f, b)) {
			return column
		}
	}
	return ""
}

// plainOf returns the value of a plain column as a statement has it.
func plainOf(ctx context.Context, f *schema.Field, row *any) any {
	v, _ := f.ValueOf(ctx, valueOf(row))
	if value, err := driver.DefaultParameterConverter.ConvertValue(v); err == nil {
		return asText(value)
	}
	return v
}
