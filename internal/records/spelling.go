package records

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/spelling"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// See package spelling for why a row must be asked for the id that it has.

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
	err = spelling.Check(ctx, in.model, rows, told)
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
		row := spelling.NewRow(t.model)
		into := make([]any, len(t.ids))
		for i, c := range t.ids {
			into[i] = c.pointer(structOf(row))
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

// updateSpelled is an UPDATE for a row that gets its first key.
func (t *Table[R]) updateSpelled(send updating[R]) updating[R] {
	return func(ctx context.Context, db DB, row *R, w field.Write, columns []column) (matched bool, err error) {
		err = db.Atomically(ctx, func(tx DB) error {
			if matched, err = send(ctx, tx, row, w, columns); err != nil || !matched {
				return err
			}
			return t.checkSpelling(ctx, tx, []*R{row})
		})
		return matched && err == nil, err
	}
}

// checkSpelling compares the ids of rows that are there.
func (t *Table[R]) checkSpelling(ctx context.Context, tx DB, rows []*R) error {
	told, err := t.readIDs(ctx, tx, rows)
	if err != nil {
		return err
	}
	return spelling.Check(ctx, t.model, rows, told)
}
