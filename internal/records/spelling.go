package records

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted/internal/spelling"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// See package spelling for why a row must be asked for what its record is bound to.

// insertSpelled inserts rows and compares them.
func (in *Insertion[R]) insertSpelled(ctx context.Context, db DB, rows []*R, args []any) error {
	told, err := in.insertTelling(ctx, db, rows, args)
	if err != nil {
		return err
	}
	lost, err := spelling.Check(in.model, rows, told)
	if err != nil && in.isOneStatement() { // no transaction takes it back
		err = errors.Join(err, in.takeBack(context.WithoutCancel(ctx), db, lost, told))
	}
	return in.of(lost, err)
}

// insertTelling inserts rows and returns what the database has in their bound columns.
func (in *Insertion[R]) insertTelling(ctx context.Context, db DB, rows []*R, args []any) ([]*R, error) {
	columns := names(in.columns)
	if in.isChangedLater() {
		if _, err := db.Exec(ctx, in.Insert(columns, len(rows)), args...); err != nil {
			return nil, Hide(err, args)
		}
		return in.readBound(ctx, db, rows)
	}
	told, err := in.toldRows(ctx, db, in.InsertTelling(names(in.bound), columns, len(rows)), args)
	if err == nil && len(told) == 0 && in.Dialect == sqldialect.MySQL { // it is MySQL
		return in.readBound(ctx, db, rows)
	}
	return told, Hide(err, args)
}

// isChangedLater reports whether triggers change rows where RETURNING does not show it:
// those of SQLite can do so only after the INSERT. They leave primary keys alone.
func (t *Table[R]) isChangedLater() bool {
	return t.Dialect == sqldialect.SQLite && len(t.bound) > len(t.ids)
}

// checkTold compares rows that are there, if the database may have something else.
func (in *Insertion[R]) checkTold(ctx context.Context, db DB, rows []*R) error {
	if !in.spells || len(rows) == 0 {
		return nil
	}
	told, err := in.readBound(ctx, db, rows)
	if err != nil {
		return err
	}
	lost, err := spelling.Check(in.model, rows, told)
	return in.of(lost, err)
}

// toldRows sends a statement that returns bound columns, and reads them as any query
// does.
func (t *Table[R]) toldRows(ctx context.Context, db DB, query string, args []any) (told []*R, err error) {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	told = t.scanBound(rows)
	return told, errors.Join(rows.Err(), rows.Close())
}

func (t *Table[R]) scanBound(rows sqldialect.Rows) (told []*R) {
	for rows.Next() {
		row := spelling.NewRow(t.model)
		if err := rows.Scan(pointers(t.bound, row)...); err != nil {
			row = nil // it has a value that this type has not: as good as another one
		}
		told = append(told, row)
	}
	return told
}

// readBound reads the bound columns of rows that are there.
func (t *Table[R]) readBound(ctx context.Context, db DB, rows []*R) (told []*R, err error) {
	for chunk := range slices.Chunk(rows, t.RowsPerInsert(len(t.ids))) {
		var ids []any
		for _, row := range chunk {
			ids = append(ids, t.id(row)...)
		}
		found, err := t.toldRows(ctx, db, t.SelectRows(names(t.bound), len(chunk)), ids)
		if err != nil {
			return nil, Hide(err, ids)
		}
		told = append(told, found...)
	}
	return told, nil
}

// takeBack deletes the row that was inserted for a record, whatever its id is: it
// has the record's wrapped key, which no other row has. The id that was told makes the
// database find it without looking at, and locking, every row.
func (t *Table[R]) takeBack(ctx context.Context, db DB, row *R, told []*R) error {
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
	if len(told) == 1 && told[0] != nil {
		byKeys.IDs, args = slices.Concat(t.IDs, byKeys.IDs), slices.Concat(t.id(told[0]), args)
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

// checkBound compares a row that was bound to values of the program's.
func (t *Table[R]) checkBound(ctx context.Context, db DB, row *R) error {
	told, err := t.readBound(ctx, db, []*R{row})
	if err != nil {
		return err
	}
	_, err = spelling.Check(t.model, []*R{row}, told)
	return err
}
