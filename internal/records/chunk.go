package records

import (
	"context"
	"errors"
	"slices"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// A database does not say which row of an INSERT of many it refuses. So rows are
// inserted together, and one by one after such an error: the first that is refused
// alone is the one.

// sending sends the values of some rows.
type sending[R any] func(db DB, rows []*R, args []any) error

// inChunks calls do with the values of columns, for size rows at a time.
func (in *Insertion[R]) inChunks(ctx context.Context, db DB, rows []*R, columns []column, size int, do sending[R]) error {
	return in.eachChunk(rows, columns, size, func(rows []*R, args []any) error { return in.chunk(ctx, db, rows, args, do) })
}

func (in *Insertion[R]) eachChunk(rows []*R, columns []column, size int, do func(rows []*R, args []any) error) (err error) {
	for chunk := range slices.Chunk(rows, size) {
		args := make([]any, 0, len(chunk)*len(columns))
		for _, row := range chunk {
			if args, err = in.values(args, columns, row); err != nil {
				return in.of(row, err)
			}
		}
		if err := do(chunk, args); err != nil {
			return err
		}
	}
	return nil
}

// chunk calls do for all rows, or until the database refuses one of them.
func (in *Insertion[R]) chunk(ctx context.Context, db DB, rows []*R, args []any, do sending[R]) error {
	if len(rows) == 1 {
		return in.of(rows[0], do(db, rows, args))
	}
	err := in.undone(ctx, db, func(db DB) error { return do(db, rows, args) })
	if !refusesRow(err) {
		return err
	}
	width := len(args) / len(rows)
	return db.Atomically(ctx, func(tx DB) error {
		for i, row := range rows {
			if alone := do(tx, rows[i:i+1], args[i*width:(i+1)*width]); alone != nil {
				return in.of(row, alone)
			}
		}
		return err // none was refused alone; take them back
	})
}

// undone calls a statement so that others can follow after an error: PostgreSQL
// would refuse them in the same transaction.
func (in *Insertion[R]) undone(ctx context.Context, db DB, statement func(DB) error) error {
	if in.Dialect == sqldialect.Postgres && !db.Commits() {
		return db.Atomically(ctx, statement)
	}
	return statement(db)
}

// refusesRow reports whether an error is about the values of a row.
func refusesRow(err error) bool {
	h, ok := errors.AsType[*hidden](err)
	return ok && sqldialect.RefusesRow(h.cause)
}

// of adds which of the records an error is about, if there are many and it does not
// say so.
func (in *Insertion[R]) of(row *R, err error) error {
	if _, says := errors.AsType[field.Failures](err); err == nil || says || len(in.rows) == 1 {
		return err
	}
	name := in.Name
	if slices.Contains(in.known, row) && !slices.Contains(in.fetched, row) {
		name = in.record(row)
	}
	return field.Failures{{Index: slices.Index(in.rows, row), Err: Failed("insert", name, err)}}
}

// OfRow adds which record an error is about: the nth of [Insertion.Values].
func (in *Insertion[R]) OfRow(n int, err error) error {
	if n < 0 || n >= len(in.known) {
		return err
	}
	return in.of(in.known[n], err)
}

// among replaces indexes of some records by those among all.
func (in *Insertion[R]) among(some []*R, err error) error {
	failures, ok := errors.AsType[field.Failures](err)
	if !ok && len(some) == 1 {
		return in.of(some[0], err)
	}
	for i, f := range failures {
		failures[i].Index = slices.Index(in.rows, some[f.Index])
	}
	return err
}
