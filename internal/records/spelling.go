package records

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// A record is bound to the text of its primary key. A database may have that in
// another spelling than the program gave it: a uuid column in lower case, a char(n)
// with spaces behind it, a column of numbers without zeros before them. Such a row
// would never open, so whoever binds a row to an id of the program's compares the
// id that the database has. Integers have one spelling only.

// insertSpelled inserts rows and compares their ids.
func (in *Insertion[R]) insertSpelled(ctx context.Context, db DB, rows []*R, args []any) error {
	told, err := in.toldIDs(ctx, db, in.InsertTellingIDs(names(in.columns), len(rows)), args)
	if err != nil {
		return Hide(err, args)
	}
	if len(told) == 0 && in.Dialect == sqldialect.MySQL { // it is MySQL
		if told, err = in.readIDs(ctx, db, rows); err != nil {
			return err
		}
	}
	err = in.compareIDs(ctx, rows, told)
	if err != nil && in.isOneStatement() { // no transaction takes it back
		err = errors.Join(err, in.takeBack(context.WithoutCancel(ctx), db, rows[0]))
	}
	return err
}

// toldIDs sends a statement that returns primary keys, and reads them as any
// query does.
func (t *Table[R]) toldIDs(ctx context.Context, db DB, query string, args []any) (told []*R, err error) {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	told = t.scanIDs(rows)
	return told, errors.Join(rows.Err(), rows.Close())
}

func (t *Table[R]) scanIDs(rows sqldialect.Rows) (told []*R) {
	for rows.Next() {
		row := new(R)
		into := make([]any, len(t.ids))
		for i, c := range t.ids {
			into[i] = c.pointer(reflect.ValueOf(row).Elem())
		}
		if err := rows.Scan(into...); err != nil {
			row = nil // it is none that this type has: as good as another one
		}
		told = append(told, row)
	}
	return told
}

// readIDs reads the primary keys of rows that are there.
func (t *Table[R]) readIDs(ctx context.Context, db DB, rows []*R) (told []*R, err error) {
	for chunk := range slices.Chunk(rows, t.RowsPerInsert(len(t.ids))) {
		var ids []any
		for _, row := range chunk {
			ids = append(ids, t.id(row)...)
		}
		found, err := t.toldIDs(ctx, db, t.SelectIDs(len(chunk)), ids)
		if err != nil {
			return nil, Hide(err, ids)
		}
		told = append(told, found...)
	}
	return told, nil
}

// compareIDs finds a record that was sealed for an id which no row has.
func (t *Table[R]) compareIDs(ctx context.Context, rows, told []*R) error {
	told = slices.Clone(told)
	var missing []*R
	for _, row := range rows { // in any order
		i := slices.IndexFunc(told, func(other *R) bool {
			return other != nil && slices.Equal(t.model.ID(row), t.model.ID(other))
		})
		if i < 0 {
			missing = append(missing, row)
			continue
		}
		told = slices.Delete(told, i, i+1)
	}
	for i, row := range missing {
		if i >= len(told) || told[i] == nil || !t.opensAs(ctx, row, told[i]) {
			return fmt.Errorf("%w: the database has the primary key in another spelling, for which the row would not open: set it as %s has it", kmsencrypted.ErrLossy, t.Name)
		}
	}
	return nil
}

// opensAs reports whether the data keys of a record open under the id of another
// too, because nothing depends on the id.
func (t *Table[R]) opensAs(ctx context.Context, row, other *R) bool {
	renamed := *row
	for _, c := range t.ids {
		to := reflect.ValueOf(&renamed).Elem().FieldByIndex(c.Index)
		to.Set(reflect.ValueOf(other).Elem().FieldByIndex(c.Index))
	}
	for _, column := range t.model.KeyColumns() {
		wrapped, err := t.model.Key(column, row).Value()
		if err != nil {
			return false
		}
		text, ok := wrapped.(string)
		if !ok { // NULL
			continue
		}
		key, err := t.model.Box().Unwrap(ctx, text, t.model.Binding(column, &renamed))
		if err != nil {
			return false
		}
		key.Wipe()
	}
	return true
}

// takeBack deletes the row that was inserted for a record, whatever its id is: it
// has the record's wrapped key, which no other row has.
func (t *Table[R]) takeBack(ctx context.Context, db DB, row *R) error {
	byKeys := t.Table
	byKeys.IDs = nil
	var args []any
	for _, column := range t.model.KeyColumns() {
		if wrapped, err := t.model.Key(column, row).Value(); err == nil && wrapped != nil {
			byKeys.IDs, args = append(byKeys.IDs, column), append(args, wrapped)
		}
	}
	if len(args) == 0 {
		return nil // nothing is sealed
	}
	result, err := db.Exec(ctx, byKeys.Delete(), args...)
	if err != nil {
		return fmt.Errorf("kms%s: delete the row: %w", t.library.Name, Hide(err, args))
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("kms%s: the row is left behind", t.library.Name)
	}
	return nil
}

// isFirstKey reports whether a record binds a row to its id that had no key: the
// record may never have been read.
func (t *Table[R]) isFirstKey(w field.Write) bool {
	return slices.ContainsFunc(w.Where, func(a field.Assignment) bool {
		return slices.Contains(a.Values(), driver.Value(nil)) && slices.Contains(t.model.KeyColumns(), a.Column)
	})
}

// updateSpelled is update for a row that gets its first key.
func (t *Table[R]) updateSpelled(ctx context.Context, db DB, row *R, w field.Write, columns []column) (matched bool, err error) {
	err = db.Atomically(ctx, func(tx DB) error {
		if matched, err = t.update(ctx, tx, row, w, columns); err != nil || !matched {
			return err
		}
		told, err := t.readIDs(ctx, tx, []*R{row})
		if err != nil {
			return err
		}
		return t.compareIDs(ctx, []*R{row}, told)
	})
	return matched && err == nil, err
}
