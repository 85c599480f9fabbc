package kmssqlx

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/conditional"
)

// Update seals what was set in a record and writes it with one UPDATE: the
// encrypted columns that changed, and the named plain columns, or all of them with
// the name "*". It does nothing if there is nothing to write.
//
// The UPDATE finds the row only if its key column is unchanged since it was read,
// or wraps the same data key. Otherwise another program gave the row another data
// key, and Update returns [kmsencrypted.ErrConflict]: read the record again and
// repeat the change. It returns [sql.ErrNoRows] if the row does not exist. After
// an error, and after a rollback of the transaction db, the record still has its
// changes, so Update can be called again: see "Transactions" in the package
// comment.
func Update[R any](ctx context.Context, db Ext, m *field.Model[R], row *R, plain ...string) error {
	const op = "update"
	if err := usable(op, db, m, row); err != nil {
		return err
	}
	t, err := newTable(ctx, db, m)
	if err != nil {
		return failed(op, m.Table(), err)
	}
	columns, err := t.named(plain)
	if err != nil {
		return failed(op, t.Name, err)
	}
	if err := m.Seal(ctx, row); err != nil {
		return err
	}
	return failed(op, t.record(row), t.write(ctx, db, row, columns))
}

// Rewrap moves a record that was read to the current version of the Box and writes
// its key column, under the conditions and with the errors of [Update]. The data
// key stays: see [field.Model.Rewrap].
func Rewrap[R any](ctx context.Context, db Ext, m *field.Model[R], row *R) error {
	const op = "rewrap"
	if err := usable(op, db, m, row); err != nil {
		return err
	}
	t, err := newTable(ctx, db, m)
	if err != nil {
		return failed(op, m.Table(), err)
	}
	if err := m.Rewrap(ctx, row); err != nil {
		return err
	}
	return failed(op, t.record(row), t.write(ctx, db, row, nil))
}

// Rekey gives a record that was read a new data key at the current version and
// writes all its encrypted columns. It returns [kmsencrypted.ErrConflict] if one
// of them has changed since. See [field.Model.Rekey].
func Rekey[R any](ctx context.Context, db Ext, m *field.Model[R], row *R) error {
	const op = "rekey"
	if err := usable(op, db, m, row); err != nil {
		return err
	}
	t, err := newTable(ctx, db, m)
	if err != nil {
		return failed(op, m.Table(), err)
	}
	if err := m.Rekey(ctx, row); err != nil {
		return err
	}
	return failed(op, t.record(row), t.write(ctx, db, row, nil))
}

// Delete deletes the row of a record by its primary key. It returns
// [sql.ErrNoRows] if the row does not exist.
func Delete[R any](ctx context.Context, db Ext, m *field.Model[R], row *R) error {
	const op = "delete"
	if err := usable(op, db, m, row); err != nil {
		return err
	}
	t, err := newTable(ctx, db, m)
	if err != nil {
		return failed(op, m.Table(), err)
	}
	result, err := db.ExecContext(ctx, t.Table.Delete(), t.id(row)...)
	if err == nil {
		var n int64
		if n, err = result.RowsAffected(); err == nil && n == 0 {
			err = sql.ErrNoRows
		}
	}
	return failed(op, t.record(row), hide(err, nil))
}

// named returns plain columns by their names.
func (t *table[R]) named(wanted []string) ([]column, error) {
	all := t.pick(plain)
	if slices.Equal(wanted, []string{"*"}) {
		return all, nil
	}
	columns := make([]column, len(wanted))
	for i, name := range wanted {
		at := slices.IndexFunc(all, func(c column) bool { return c.name == name })
		if at < 0 {
			return nil, fmt.Errorf("%w: %s is not a writable plain column", kmsencrypted.ErrConfig, name)
		}
		columns[i] = all[at]
	}
	return columns, nil
}

// write makes the conditional UPDATE of a sealed record, with the named plain
// columns. If the row does not match, it tries once more if the key column was
// only rewrapped meanwhile.
func (t *table[R]) write(ctx context.Context, db Ext, row *R, named []column) error {
	const tries = 2
	for try := range tries {
		w, err := t.model.Write(row, names(named)...)
		if err != nil {
			return err
		}
		columns := t.withCompanions(named, w.Set)
		if len(w.Set)+len(columns) == 0 {
			break
		}
		update := t.update
		switch {
		case w.Key != field.KeyKept:
			update = t.updateLocked
		case t.spellsIDs && t.isFirstKey(w):
			update = t.updateSpelled
		}
		switch matched, err := update(ctx, db, row, w, columns); {
		case err != nil:
			t.model.Sent(row) // only the answer may have been lost
			return err
		case matched && confirms(db):
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
	if confirms(db) {
		t.model.Saved(row) // there was nothing to write
	}
	return nil
}

func (t *table[R]) update(ctx context.Context, db Ext, row *R, w field.Write, columns []column) (matched bool, err error) {
	values, err := t.values(nil, columns, row)
	if err != nil {
		return false, err
	}
	w.Set = slices.Clip(w.Set)
	for i, c := range columns {
		w.Set = append(w.Set, field.Assignment{Column: c.name, Value: values[i]})
	}
	query, args := conditional.Update(t.Table, w, t.id(row))
	result, err := db.ExecContext(ctx, query, args...)
	if err == nil {
		matched, err = t.Matched(result)
	}
	return matched, hide(err, args)
}

// updateLocked is update for a row that gets another data key. Columns that the
// table has by now but the model does not know must not be lost with the old one.
func (t *table[R]) updateLocked(ctx context.Context, db Ext, row *R, w field.Write, columns []column) (matched bool, err error) {
	err = atomically(ctx, db, func(tx Ext) error {
		existing, err := t.LockedColumns(ctx, tx, t.id(row))
		if err != nil {
			return hide(err, nil)
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
		matched, err = t.update(ctx, tx, row, w, columns)
		return err
	})
	return matched && err == nil, err
}

// reconsider reads the key columns of a row that did not match and lets the model
// decide which of them it takes over.
func (t *table[R]) reconsider(ctx context.Context, db Ext, row *R, where []field.Assignment) error {
	var keys []field.Assignment
	for _, c := range t.pick(key) {
		if i := slices.IndexFunc(where, func(a field.Assignment) bool { return a.Column == c.name }); i >= 0 {
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
func (t *table[R]) read(ctx context.Context, db Ext, row *R, columns []field.Assignment) ([]any, error) {
	var list []string
	for _, a := range columns {
		list = append(list, a.Column)
	}
	now := make([]any, max(1, len(columns)))
	into := make([]any, len(now))
	for i := range now {
		into[i] = &now[i]
	}
	err := db.QueryRowxContext(ctx, t.Table.Select(list), t.id(row)...).Scan(into...)
	return now, hide(err, nil)
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
func (t *table[R]) withCompanions(columns []column, set []field.Assignment) []column {
	isSet := func(name string) bool {
		return slices.ContainsFunc(set, func(a field.Assignment) bool { return a.Column == name })
	}
	for _, c := range t.pick(encrypted) {
		if !isSet(c.name) {
			continue
		}
		for _, other := range t.pick(plain) {
			if other.field.Field.Name == c.option("ad") {
				columns = append(slices.Clip(columns), other)
			}
		}
	}
	columns = slices.DeleteFunc(slices.Clone(columns), func(c column) bool { return isSet(c.name) })
	slices.SortFunc(columns, func(a, b column) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(columns, func(a, b column) bool { return a.name == b.name })
}
