package records

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Insert seals records and inserts all or none of them.
func Insert[R any](ctx context.Context, db DB, t *Table[R], rows ...*R) error {
	in, err := t.Begin(ctx, db, rows)
	if err == nil && in.isOneStatement() {
		err = in.Write(ctx, db)
	} else if err == nil {
		err = db.Atomically(ctx, func(tx DB) error { return in.Write(ctx, tx) })
	}
	return in.End(db.Commits(), err)
}

// Insertion is a list of records that are being inserted.
type Insertion[R any] struct {
	*Table[R]
	rows    []*R // as the caller gave them
	known   []*R // with an id
	unknown []*R // the database assigns the id
	fetched []*R // those of known whose ids were fetched
	later   bool // unknown ones can be sealed only after their id is known
	many    bool // unknown ones are written many at a time
}

// Begin seals records that are to be inserted, as far as their ids are known or can
// be fetched. The caller must call End, also after an error.
func (t *Table[R]) Begin(ctx context.Context, db DB, rows []*R) (*Insertion[R], error) {
	t.model.DropAssignedIDs(rows...)
	in := &Insertion[R]{Table: t, rows: rows}
	for _, row := range rows {
		if t.hasID(row) {
			in.known = append(in.known, row)
		} else {
			in.unknown = append(in.unknown, row)
		}
	}
	return in, in.seal(ctx, db)
}

// End tells the records whether they were inserted: err is nil if they were, and
// committed says that no rollback can follow.
func (in *Insertion[R]) End(committed bool, err error) error {
	assigned := slices.Concat(in.fetched, in.unknown)
	if err != nil {
		err = in.Failed(err)
		in.forgetIDs(assigned)
		return err
	}
	if committed {
		in.model.Saved(slices.Concat(in.known, in.unknown)...)
		return nil
	}
	in.model.Inserted(false, in.known[:len(in.known)-len(in.fetched)]...)
	in.model.Inserted(true, assigned...)
	return nil
}

// seal seals the records that can be sealed before anything is written.
func (in *Insertion[R]) seal(ctx context.Context, db DB) error {
	if err := in.fetchIDs(ctx, db); err != nil {
		return err
	}
	if err := in.model.SealNew(ctx, in.known...); err != nil {
		return in.among(in.known, err)
	}
	err := in.model.SealNew(ctx, in.unknown...)
	if errors.Is(err, kmsencrypted.ErrNoID) && len(in.ids) == 1 {
		in.later, err = true, nil
	}
	return in.among(in.unknown, err)
}

// fetchIDs takes ids from the sequence of the id column, if there is one.
func (in *Insertion[R]) fetchIDs(ctx context.Context, db DB) error {
	if len(in.unknown) == 0 || len(in.ids) > 1 || !in.HasSequences() || in.ids[0].Returned {
		return nil
	}
	ids, err := readColumn[sql.Null[int64]](ctx, db, in.NextIDs(), len(in.unknown))
	if err != nil {
		return err
	}
	for i, row := range in.unknown {
		if !ids[i].Valid {
			return nil
		}
		if err := in.setID(row, ids[i].V); err != nil {
			return err
		}
	}
	in.known, in.fetched, in.unknown = slices.Concat(in.known, in.unknown), in.unknown, nil
	return nil
}

// setID sets the primary key to a number that the database assigned.
func (in *Insertion[R]) setID(row *R, n int64) error {
	v := in.ids[0].in(structOf(row))
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
func (t *Table[R]) forgetIDs(rows []*R) {
	for _, row := range rows {
		for _, c := range t.ids {
			c.in(structOf(row)).SetZero()
		}
	}
}

// Failed adds the records to an error.
func (in *Insertion[R]) Failed(err error) error { return Failed("insert", in.where(), err) }

// where returns the name of the record in errors, if there is only one.
func (in *Insertion[R]) where() string {
	if len(in.known) == 1 && len(in.unknown) == 0 {
		return in.record(in.known[0])
	}
	return in.Name
}

// isOneStatement reports whether write needs no transaction.
func (in *Insertion[R]) isOneStatement() bool {
	if len(in.returned) > 0 {
		return false
	}
	if len(in.unknown) == 0 {
		return len(in.known) == 1 || !in.spells && len(in.known) <= in.RowsPerInsert(len(in.columns))
	}
	return len(in.known) == 0 && len(in.unknown) == 1 && !in.later && !in.spells
}

// Write inserts the records.
func (in *Insertion[R]) Write(ctx context.Context, db DB) error {
	if err := in.insert(ctx, db); err != nil {
		return err
	}
	return in.readReturned(ctx, db, slices.Concat(in.known, in.unknown))
}

func (in *Insertion[R]) insert(ctx context.Context, db DB) error {
	if err := in.insertKnown(ctx, db); err != nil {
		return err
	}
	if err := in.askMany(ctx, db); err != nil {
		return err
	}
	if err := in.insertUnknown(ctx, db); err != nil {
		return err
	}
	if in.later {
		return in.Complete(ctx, db)
	}
	return in.checkTold(ctx, db, in.unknown)
}

// Unsealed returns the records that are inserted without their encrypted columns,
// because the database assigns the id that they are sealed for.
func (in *Insertion[R]) Unsealed() []*R {
	if !in.later {
		return nil
	}
	return in.unknown
}

// Unknown returns the records whose ids the database assigns.
func (in *Insertion[R]) Unknown() []*R { return in.unknown }

// Complete seals such records when their rows and ids are there, and writes them. It
// returns [kmsencrypted.ErrLossy] if one of the rows would not open.
func (in *Insertion[R]) Complete(ctx context.Context, db DB) error {
	if err := in.completeUnsealed(ctx, db); err != nil {
		return err
	}
	return in.checkTold(ctx, db, in.Unsealed())
}

func (in *Insertion[R]) completeUnsealed(ctx context.Context, db DB) error {
	if err := in.model.SealNew(ctx, in.Unsealed()...); err != nil {
		return in.among(in.unknown, err)
	}
	if in.many {
		return in.updateMany(ctx, db)
	}
	told := *in.Table
	told.spells = false // they are compared together
	for _, row := range in.Unsealed() {
		err := told.write(ctx, db, row, nil)
		if errors.Is(err, kmsencrypted.ErrConflict) { // nobody else has seen the row
			err = cmp.Or(in.checkTold(ctx, db, []*R{row}), err)
		}
		if err != nil {
			return in.of(row, err)
		}
	}
	return nil
}

// askMany determines whether the ids of many rows can be returned at once. They
// are never computed from the first or last: another node may own the numbers
// between.
func (in *Insertion[R]) askMany(ctx context.Context, db DB) error {
	question, ok := in.AsksMany()
	if !ok || len(in.unknown) < 2 {
		return nil
	}
	answer, err := readColumn[int](ctx, db, question)
	in.many = slices.Equal(answer, []int{2})
	return err
}

// insertKnown inserts complete rows.
func (in *Insertion[R]) insertKnown(ctx context.Context, db DB) error {
	return in.inChunks(ctx, db, in.known, in.columns, in.RowsPerInsert(len(in.columns)), func(db DB, rows []*R, args []any) error {
		if in.spells {
			return in.insertSpelled(ctx, db, rows, args)
		}
		insert := in.insertRow
		if len(rows) > 1 {
			insert = in.Insert(names(in.columns), len(rows))
		}
		_, err := db.Exec(ctx, insert, args...)
		return Hide(err, args)
	})
}

// insertUnknown inserts rows and reads the ids that the database assigned. If they
// are sealed later, their encrypted columns are NULL until then, which only this
// transaction sees.
func (in *Insertion[R]) insertUnknown(ctx context.Context, db DB) error {
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
	return in.inChunks(ctx, db, in.unknown, columns, size, func(db DB, rows []*R, args []any) error {
		if len(rows) == 1 && in.HasLastInsertID() {
			return in.insertOne(ctx, db, columns, rows[0], args)
		}
		n := 0
		err := each(ctx, db, in.InsertReturning(names(columns), len(rows)), args, func(returned sqldialect.Rows) error {
			if n++; n > len(rows) {
				return nil
			}
			return returned.Scan(in.ids[0].pointer(structOf(rows[n-1])))
		})
		if err != nil {
			return err
		}
		if n < len(rows) {
			return fmt.Errorf("%w: the database returned %d ids for %d rows", kmsencrypted.ErrNoID, n, len(rows))
		}
		return nil
	})
}

// insertOne is also for MySQL, which has no RETURNING.
func (in *Insertion[R]) insertOne(ctx context.Context, db DB, columns []column, row *R, args []any) error {
	result, err := db.Exec(ctx, in.Insert(names(columns), 1), args...)
	if err != nil {
		return Hide(err, args)
	}
	n, err := result.LastInsertId()
	if err != nil {
		return Hide(err, args)
	}
	if n == 0 {
		return fmt.Errorf("%w: the database returned no id for the row", kmsencrypted.ErrNoID)
	}
	return in.setID(row, n)
}

// updateMany writes the encrypted columns of rows that this transaction inserted.
func (in *Insertion[R]) updateMany(ctx context.Context, db DB) error {
	sealed, empty := in.pick(encrypted, key), names(in.pick(key))
	columns := append(slices.Clone(in.ids), sealed...)
	return in.inChunks(ctx, db, in.unknown, columns, in.RowsPerInsert(len(columns)), func(db DB, rows []*R, args []any) error {
		result, err := db.Exec(ctx, in.UpdateMany(names(sealed), empty, len(rows)), args...)
		if err != nil {
			return Hide(err, args)
		}
		want := 0 // a row changes if there is anything to write
		for row := range slices.Chunk(args, len(columns)) {
			if slices.ContainsFunc(row[len(in.ids):], func(v any) bool { return v != nil }) {
				want++
			}
		}
		if n, err := result.RowsAffected(); err != nil || n < int64(want) {
			return errors.Join(Hide(err, args), fmt.Errorf("%w: %d of %d rows were changed while they were inserted", kmsencrypted.ErrConflict, int64(want)-n, want))
		}
		return nil
	})
}
