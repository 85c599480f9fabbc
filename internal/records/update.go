package records

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/conditional"
	"github.com/kmsencrypted/kmsencrypted/internal/spelling"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Update seals what was set in a record and writes it, with the named plain columns.
func Update[R any](ctx context.Context, db DB, t *Table[R], row *R, plain ...string) error {
	if _, err := t.named(plain); err != nil {
		return Failed("update", t.Name, err)
	}
	if err := t.model.Seal(ctx, row); err != nil {
		return err
	}
	return t.Write(ctx, db, row, plain...)
}

// Write writes a record that was sealed, with the named plain columns.
func (t *Table[R]) Write(ctx context.Context, db DB, row *R, plain ...string) error {
	columns, err := t.named(plain)
	if err != nil {
		return Failed("update", t.Name, err)
	}
	return Failed("update", t.record(row), t.write(ctx, db, row, columns))
}

// Rewrap moves a record to the current version and writes its key columns.
func Rewrap[R any](ctx context.Context, db DB, t *Table[R], row *R) error {
	if err := t.model.Rewrap(ctx, row); err != nil {
		return err
	}
	return Failed("rewrap", t.record(row), t.write(ctx, db, row, nil))
}

// Rekey gives a record a new data key and writes all its encrypted columns.
func Rekey[R any](ctx context.Context, db DB, t *Table[R], row *R) error {
	if err := t.model.Rekey(ctx, row); err != nil {
		return err
	}
	return Failed("rekey", t.record(row), t.write(ctx, db, row, nil))
}

// Delete deletes the row of a record.
func Delete[R any](ctx context.Context, db DB, t *Table[R], row *R) error {
	result, err := db.Exec(ctx, t.Table.Delete(), t.id(row)...)
	if err == nil {
		var n int64
		if n, err = result.RowsAffected(); err == nil && n == 0 {
			err = t.library.NoRows
		}
	}
	return Failed("delete", t.record(row), Hide(err, nil))
}

// named returns plain columns by their names.
func (t *Table[R]) named(wanted []string) ([]column, error) {
	all := t.pick(plain)
	if slices.Equal(wanted, []string{"*"}) {
		return all, nil
	}
	columns := make([]column, len(wanted))
	for i, name := range wanted {
		at := slices.IndexFunc(all, func(c column) bool { return c.Column == name })
		if at < 0 {
			return nil, fmt.Errorf("%w: %s is not a writable plain column", kmsencrypted.ErrConfig, name)
		}
		columns[i] = all[at]
	}
	return columns, nil
}

// updating sends an UPDATE of a record, with plain columns, and reports whether the
// row matched.
type updating[R any] func(ctx context.Context, db DB, row *R, w field.Write, columns []column) (matched bool, err error)

// write makes the conditional UPDATE of a sealed record, with the named plain
// columns.
func (t *Table[R]) write(ctx context.Context, db DB, row *R, named []column) error {
	return t.writeBy(ctx, db, row, named, t.update)
}

// writeBy writes a sealed record by an UPDATE that somebody else sends. If the row
// does not match, it tries once more if the key column was only rewrapped meanwhile.
func (t *Table[R]) writeBy(ctx context.Context, db DB, row *R, named []column, send updating[R]) error {
	const tries = 2
	for try := range tries {
		w, columns, err := t.changes(row, named)
		if err != nil {
			return err
		}
		if len(w.Set)+len(columns) == 0 {
			break
		}
		switch matched, err := t.updateSafely(ctx, db, row, w, columns, send); {
		case err != nil:
			t.model.Sent(row) // only the answer may have been lost
			return err
		case matched && db.Commits():
			t.model.Saved(row)
			return nil
		case matched:
			t.model.Sent(row)
			return nil
		case try+1 == tries:
			return kmsencrypted.ErrConflict
		}
		if err := t.reconsider(ctx, db, row, w.Where); err != nil {
			return err
		}
	}
	if db.Commits() {
		t.model.Saved(row) // there was nothing to write
	}
	return nil
}

// binds reports whether a row must be compared after a write.
func (t *Table[R]) binds(w field.Write, plain []column) bool {
	return t.spells && spelling.Binds(t.model, w, names(plain)...)
}

// updateSafely sends an UPDATE, for a row that gets another data key or other values
// that it is bound to with what has to be done before and after.
func (t *Table[R]) updateSafely(ctx context.Context, db DB, row *R, w field.Write, columns []column, send updating[R]) (matched bool, err error) {
	binds := t.binds(w, columns)
	if w.Key == field.KeyKept && !binds {
		return send(ctx, db, row, w, columns)
	}
	err = db.Atomically(ctx, func(tx DB) error {
		if w.Key != field.KeyKept {
			if err := t.lockForKey(ctx, tx, row, &w); err != nil {
				return err
			}
		}
		if matched, err = send(ctx, tx, row, w, columns); err != nil || !matched || !binds {
			return err
		}
		return t.checkBound(ctx, tx, row)
	})
	return matched && err == nil, err
}

// changes returns what has to be written of a record, with plain columns.
func (t *Table[R]) changes(row *R, named []column) (w field.Write, columns []column, err error) {
	if w, err = t.model.Write(row, names(named)...); err != nil {
		return w, nil, err
	}
	isOmitted := func(c column) bool { return slices.Contains(w.Omit, c.Column) }
	return w, slices.DeleteFunc(t.withCompanions(named, w.Set), isOmitted), nil
}

func (t *Table[R]) update(ctx context.Context, db DB, row *R, w field.Write, columns []column) (matched bool, err error) {
	if w.Set, err = t.assigned(w.Set, columns, row); err != nil {
		return false, err
	}
	query, args := conditional.Update(t.Table, w, t.id(row))
	result, err := db.Exec(ctx, query, args...)
	if err == nil {
		matched, err = t.Matched(result)
	}
	if err == nil && !matched && t.CountsChanges() {
		return t.isWritten(ctx, db, row, w)
	}
	return matched, Hide(err, args)
}

// isWritten reports whether a row is as an UPDATE would make it that changed none.
func (t *Table[R]) isWritten(ctx context.Context, db DB, row *R, w field.Write) (is bool, err error) {
	all := slices.Clone(w.Where)
	for _, a := range w.Set {
		_, a.Exact = a.Value.(string)
		all = append(all, a)
	}
	query, args := conditional.Holds(t.Table, all, t.id(row))
	found, err := readColumn[int](ctx, db, query, args...)
	return len(found) > 0, err
}

// assigned adds the values of plain columns to what is set.
func (t *Table[R]) assigned(set []field.Assignment, columns []column, row *R) ([]field.Assignment, error) {
	values, err := t.values(nil, columns, row)
	if err != nil {
		return nil, err
	}
	set = slices.Clip(set)
	for i, c := range columns {
		set = append(set, field.Assignment{Column: c.Column, Value: values[i]})
	}
	return set, nil
}

// lockForKey locks a row that gets another data key. Columns that the table has by now
// but the model does not know must not be lost with the old one.
func (t *Table[R]) lockForKey(ctx context.Context, tx DB, row *R, w *field.Write) error {
	existing, err := t.LockedColumns(ctx, tx, t.id(row))
	if err != nil {
		return Hide(t.library.noRows(err), nil)
	}
	unknown := t.model.UnknownColumns(existing)
	if w.Key == field.KeyRekeyed && len(unknown) > 0 {
		return fmt.Errorf("%w: rekey of table %s: %w", kmsencrypted.ErrConfig, t.Name, field.UnknownColumnsError(unknown))
	}
	var empty []field.Assignment
	for _, name := range unknown {
		empty = append(empty, field.Assignment{Column: name})
	}
	now, err := t.read(ctx, tx, row, empty)
	if err != nil {
		return err
	}
	if len(unknown) > 0 && slices.ContainsFunc(now, func(v any) bool { return v != nil }) {
		return fmt.Errorf("%w: %w", kmsencrypted.ErrNeedsDecrypt, field.UnknownColumnsError(unknown))
	}
	w.Where = slices.Concat(w.Where, empty)
	return nil
}

// reconsider reads the key columns of a row that did not match and lets the model
// decide which of them it takes over.
func (t *Table[R]) reconsider(ctx context.Context, db DB, row *R, where []field.Assignment) error {
	var keys []field.Assignment
	for _, c := range t.pick(key) {
		if i := slices.IndexFunc(where, func(a field.Assignment) bool { return a.Column == c.Column }); i >= 0 {
			keys = append(keys, where[i])
		}
	}
	now, err := t.read(ctx, db, row, keys)
	if err != nil {
		return err
	}
	for i, before := range keys {
		if slices.ContainsFunc(before.Values(), func(known driver.Value) bool { return same(known, now[i]) }) {
			continue
		}
		if err := t.model.KeyChanged(ctx, row, before.Column, now[i]); err != nil {
			return err
		}
	}
	return nil
}

// read reads columns of a row as they are in the database.
func (t *Table[R]) read(ctx context.Context, db DB, row *R, columns []field.Assignment) ([]any, error) {
	var list []string
	for _, a := range columns {
		list = append(list, a.Column)
	}
	now := make([]any, max(1, len(columns)))
	into := make([]any, len(now))
	for i := range now {
		into[i] = &now[i]
	}
	err := t.library.NoRows
	if failure := each(ctx, db, t.Table.Select(list), t.id(row), func(rows sqldialect.Rows) error {
		err = rows.Scan(into...)
		return err
	}); failure != nil {
		err = failure
	}
	return now, err
}

// same compares contents of a column, which drivers return as text or as bytes.
func same(a, b any) bool {
	if a == nil || b == nil {
		return a == b
	}
	return fmt.Sprintf("%s", a) == fmt.Sprintf("%s", b)
}

// withCompanions adds the plain columns to which changed encrypted columns are
// bound by the tag ad=, because they would not open without. It skips columns that
// the model writes itself.
func (t *Table[R]) withCompanions(columns []column, set []field.Assignment) []column {
	isSet := func(name string) bool {
		return slices.ContainsFunc(set, func(a field.Assignment) bool { return a.Column == name })
	}
	for _, c := range t.pick(encrypted) {
		if !isSet(c.Column) {
			continue
		}
		for _, other := range t.pick(plain) {
			if other.Struct.Name == c.option("ad") {
				columns = append(slices.Clip(columns), other)
			}
		}
	}
	columns = slices.DeleteFunc(slices.Clone(columns), func(c column) bool { return isSet(c.Column) })
	slices.SortFunc(columns, func(a, b column) int { return strings.Compare(a.Column, b.Column) })
	return slices.CompactFunc(columns, func(a, b column) bool { return a.Column == b.Column })
}
