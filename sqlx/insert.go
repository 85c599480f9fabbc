package kmssqlx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// Insert seals records under new data keys and inserts all or none of them, with
// one call to the key service for each. A copy of another record becomes a record
// of its own. For a slice: field.Pointers(slice)...
//
// If the primary key is zero, the database assigns it, and Insert sets it in the
// record; see "Primary keys" in the package comment. If Insert fails, the ids are
// unchanged. After a transaction was rolled back, repeat it with the same records:
// Insert drops an id that the database had assigned, and the record gets another
// one.
func Insert[R any](ctx context.Context, db Ext, m *field.Model[R], rows ...*R) (err error) {
	const op = "insert"
	if err := usable(op, db, m, rows...); err != nil {
		return err
	}
	if len(rows) == 0 {
		return nil
	}
	t, err := newTable(ctx, db, m)
	if err != nil {
		return failed(op, m.Table(), err)
	}
	m.Adapter().DropAssignedIDs(rows...)
	in := insertion[R]{table: t}
	for _, row := range rows {
		if t.hasID(row) {
			in.known = append(in.known, row)
		} else {
			in.unknown = append(in.unknown, row)
		}
	}
	known, unknown := in.known, in.unknown
	defer func() {
		if err != nil {
			t.forgetIDs(unknown)
		}
	}()
	if err := in.seal(ctx, db); err != nil {
		return failed(op, t.Name, err)
	}
	if in.isOneStatement() {
		err = in.write(ctx, db)
	} else {
		err = atomically(ctx, db, func(tx Ext) error { return in.write(ctx, tx) })
	}
	if err != nil {
		return failed(op, in.where(), err)
	}
	if confirms(db) {
		m.Adapter().Saved(rows...)
		return nil
	}
	m.Adapter().Inserted(false, known...)
	m.Adapter().Inserted(true, unknown...)
	return nil
}

// insertion is a list of records that are being inserted.
type insertion[R any] struct {
	*table[R]
	known   []*R // with an id
	unknown []*R // the database assigns the id
	later   bool // unknown ones can be sealed only after their id is known
	many    bool // unknown ones are written many at a time
}

// seal seals the records that can be sealed before anything is written.
func (in *insertion[R]) seal(ctx context.Context, db Ext) error {
	if err := in.fetchIDs(ctx, db); err != nil {
		return err
	}
	if err := in.model.SealNew(ctx, in.known...); err != nil {
		return err
	}
	err := in.model.SealNew(ctx, in.unknown...)
	if errors.Is(err, kmsencrypted.ErrNoID) && len(in.ids) == 1 {
		in.later, err = true, nil
	}
	return err
}

// fetchIDs takes ids from the sequence of the id column, if there is one.
func (in *insertion[R]) fetchIDs(ctx context.Context, db Ext) error {
	if len(in.unknown) == 0 || len(in.ids) > 1 || !in.HasSequences() || in.ids[0].isReturned() {
		return nil
	}
	var ids []sql.Null[int64]
	if err := sqlx.SelectContext(ctx, db, &ids, in.NextIDs(), len(in.unknown)); err != nil {
		return hide(err, nil)
	}
	for i, row := range in.unknown {
		if !ids[i].Valid {
			return nil
		}
		if err := in.setID(row, ids[i].V); err != nil {
			return err
		}
	}
	in.known, in.unknown = slices.Concat(in.known, in.unknown), nil
	return nil
}

// setID sets the primary key to a number that the database assigned.
func (in *insertion[R]) setID(row *R, n int64) error {
	v := reflect.ValueOf(row).Elem().FieldByIndex(in.ids[0].field.Index)
	switch {
	case v.CanInt() && !v.OverflowInt(n):
		v.SetInt(n)
	case v.CanUint() && n > 0 && !v.OverflowUint(uint64(n)):
		v.SetUint(uint64(n))
	default:
		return fmt.Errorf("%w: the database assigns numbers as ids, which a %v cannot hold", kmsencrypted.ErrConfig, v.Type())
	}
	return nil
}

// forgetIDs resets the primary keys set by a failed insert.
func (t *table[R]) forgetIDs(rows []*R) {
	for _, row := range rows {
		for _, c := range t.ids {
			reflect.ValueOf(row).Elem().FieldByIndex(c.field.Index).SetZero()
		}
	}
}

// where returns the name of the record in errors, if there is only one.
func (in *insertion[R]) where() string {
	if len(in.known) == 1 && len(in.unknown) == 0 {
		return in.record(in.known[0])
	}
	return in.Name
}

// isOneStatement reports whether write needs no transaction.
func (in *insertion[R]) isOneStatement() bool {
	if len(in.unknown) == 0 {
		return len(in.known) == 1 || !in.spellsIDs && len(in.known) <= in.RowsPerInsert(len(in.columns))
	}
	return len(in.known) == 0 && len(in.unknown) == 1 && !in.later
}

func (in *insertion[R]) write(ctx context.Context, db Ext) error {
	if err := in.insertKnown(ctx, db); err != nil {
		return err
	}
	if err := in.askMany(ctx, db); err != nil {
		return err
	}
	if err := in.insertUnknown(ctx, db); err != nil || !in.later {
		return err
	}
	if err := in.model.SealNew(ctx, in.unknown...); err != nil {
		return err
	}
	if in.many {
		return in.updateMany(ctx, db)
	}
	told := *in.table
	told.spellsIDs = false // these are as the database told them
	for _, row := range in.unknown {
		if err := told.write(ctx, db, row, nil); err != nil {
			return err
		}
	}
	return nil
}

// askMany determines whether the ids of many rows can be returned at once. They
// are never computed from the first or last: another node may own the numbers
// between.
func (in *insertion[R]) askMany(ctx context.Context, db Ext) error {
	question, ok := in.AsksMany()
	if !ok || len(in.unknown) < 2 {
		return nil
	}
	var answer int
	err := sqlx.GetContext(ctx, db, &answer, question)
	in.many = answer == 2
	return hide(err, nil)
}

// insertKnown inserts complete rows.
func (in *insertion[R]) insertKnown(ctx context.Context, db Ext) error {
	return in.inChunks(in.known, in.columns, in.RowsPerInsert(len(in.columns)), func(rows []*R, args []any) error {
		if in.spellsIDs {
			return in.insertSpelled(ctx, db, rows, args)
		}
		insert := in.insertRow
		if len(rows) > 1 {
			insert = in.Insert(names(in.columns), len(rows))
		}
		_, err := db.ExecContext(ctx, insert, args...)
		return hide(err, args)
	})
}

// insertUnknown inserts rows and reads the ids that the database assigned. If they
// are sealed later, their encrypted columns are NULL until then, which only this
// transaction sees.
func (in *insertion[R]) insertUnknown(ctx context.Context, db Ext) error {
	if len(in.unknown) == 0 {
		return nil
	}
	columns := in.pick(plain, encrypted, key)
	if in.later {
		columns = in.pick(plain)
	}
	size := 1
	if in.many {
		size = in.RowsPerInsert(len(columns))
	}
	return in.inChunks(in.unknown, columns, size, func(rows []*R, args []any) error {
		if len(rows) == 1 && in.HasLastInsertID() {
			return in.insertOne(ctx, db, columns, rows[0], args)
		}
		returned, err := db.QueryContext(ctx, in.InsertReturning(names(columns), len(rows)), args...)
		if err != nil {
			return hide(err, args)
		}
		defer returned.Close()
		n := 0
		for ; returned.Next() && n < len(rows); n++ {
			if err := returned.Scan(in.ids[0].pointer(reflect.ValueOf(rows[n]).Elem())); err != nil {
				return hide(err, args)
			}
		}
		if err := returned.Err(); err != nil {
			return hide(err, args)
		}
		if n < len(rows) {
			return fmt.Errorf("%w: the database returned %d ids for %d rows", kmsencrypted.ErrNoID, n, len(rows))
		}
		return hide(returned.Close(), args)
	})
}

// insertOne is also for MySQL, which has no RETURNING.
func (in *insertion[R]) insertOne(ctx context.Context, db Ext, columns []column, row *R, args []any) error {
	result, err := db.ExecContext(ctx, in.Insert(names(columns), 1), args...)
	if err != nil {
		return hide(err, args)
	}
	n, err := result.LastInsertId()
	if err != nil {
		return hide(err, args)
	}
	if n == 0 {
		return fmt.Errorf("%w: the database returned no id for the row", kmsencrypted.ErrNoID)
	}
	return in.setID(row, n)
}

// updateMany writes the encrypted columns of rows that this transaction inserted.
func (in *insertion[R]) updateMany(ctx context.Context, db Ext) error {
	sealed, empty := in.pick(encrypted, key), names(in.pick(key))
	columns := append(slices.Clone(in.ids), sealed...)
	return in.inChunks(in.unknown, columns, in.RowsPerInsert(len(columns)), func(rows []*R, args []any) error {
		result, err := db.ExecContext(ctx, in.UpdateMany(names(sealed), empty, len(rows)), args...)
		if err != nil {
			return hide(err, args)
		}
		want := 0 // a row changes if there is anything to write
		for row := range slices.Chunk(args, len(columns)) {
			if slices.ContainsFunc(row[len(in.ids):], func(v any) bool { return v != nil }) {
				want++
			}
		}
		if n, err := result.RowsAffected(); err != nil || n < int64(want) {
			return errors.Join(hide(err, args), fmt.Errorf("%w: %d of %d rows were changed while they were inserted", kmsencrypted.ErrConflict, int64(want)-n, want))
		}
		return nil
	})
}

// inChunks calls do with the values of columns, for size rows at a time.
func (in *insertion[R]) inChunks(rows []*R, columns []column, size int, do func(rows []*R, args []any) error) (err error) {
	for chunk := range slices.Chunk(rows, size) {
		args := make([]any, 0, len(chunk)*len(columns))
		for _, row := range chunk {
			if args, err = in.values(args, columns, row); err != nil {
				return err
			}
		}
		if err := do(chunk, args); err != nil {
			return err
		}
	}
	return nil
}
