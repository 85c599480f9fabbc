package records

import (
	"context"
	"reflect"
	"slices"

	"github.com/kmsencrypted/kmsencrypted/internal/spelling"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Plain columns with the option returned are filled by the database. They are read
// by the primary key after the INSERT and in its transaction: not every database has
// RETURNING, and a row may be completed by an UPDATE.

// readReturned reads such columns of records that were inserted.
func (t *Table[R]) readReturned(ctx context.Context, db DB, rows []*R) error {
	if len(t.returned) == 0 {
		return nil
	}
	for chunk := range slices.Chunk(rows, t.RowsPerInsert(len(t.ids))) {
		missing, err := t.readMany(ctx, db, chunk)
		if err != nil {
			return err
		}
		for _, row := range missing { // the database spells its id in another way
			if err := t.readOne(ctx, db, row); err != nil {
				return Failed("insert", t.record(row), err)
			}
		}
	}
	return nil
}

// readMany reads rows in any order. It returns the records for which it found none.
func (t *Table[R]) readMany(ctx context.Context, db DB, rows []*R) (missing []*R, err error) {
	columns := slices.Concat(t.ids, t.returned)
	byID := make(map[string]*R, len(rows))
	var ids []any
	for _, row := range rows {
		byID[t.record(row)] = row
		ids = append(ids, t.id(row)...)
	}
	err = each(ctx, db, t.SelectRows(names(columns), len(rows)), ids, func(found sqldialect.Rows) error {
		told := spelling.NewRow(t.model)
		if err := found.Scan(pointers(columns, told)...); err != nil {
			return err
		}
		if row := byID[t.record(told)]; row != nil {
			delete(byID, t.record(told))
			for _, c := range t.returned {
				to, from := c.pointer(structOf(row)), c.pointer(structOf(told))
				reflect.ValueOf(to).Elem().Set(reflect.ValueOf(from).Elem())
			}
		}
		return nil
	})
	for _, row := range byID {
		missing = append(missing, row)
	}
	return missing, err
}

func (t *Table[R]) readOne(ctx context.Context, db DB, row *R) error {
	n := 0
	err := each(ctx, db, t.Select(names(t.returned)), t.id(row), func(found sqldialect.Rows) error {
		n++
		return found.Scan(pointers(t.returned, row)...)
	})
	if err == nil && n == 0 {
		return t.library.NoRows
	}
	return err
}

func pointers[R any](columns []column, row *R) []any {
	all := make([]any, len(columns))
	for i, c := range columns {
		all[i] = c.pointer(structOf(row))
	}
	return all
}
