package records

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// Some libraries write their statements themselves, with columns that this package
// knows nothing of. InsertBy and UpdateBy do all that belongs around such a statement.

// InsertBy seals records and inserts them by a statement that send sends. Primary keys
// that are set by then must be inserted, and send must set the others. If sealed is
// false, it must insert NULL for the encrypted columns.
func InsertBy[R any](ctx context.Context, db DB, t *Table[R], rows []*R, send func(ctx context.Context, db DB, sealed bool) error) error {
	in, err := t.Begin(ctx, db, rows)
	switch {
	case err != nil:
	case in.later, in.spells:
		err = db.Atomically(ctx, func(tx DB) error { return in.by(ctx, tx, send) })
	default:
		err = send(ctx, db, true)
	}
	return in.End(db.Commits(), err)
}

func (in *Insertion[R]) by(ctx context.Context, tx DB, send func(ctx context.Context, db DB, sealed bool) error) error {
	if in.later {
		if err := in.askMany(ctx, tx); err != nil {
			return err
		}
	}
	if err := send(ctx, tx, !in.later); err != nil {
		return err
	}
	if in.later {
		if err := in.Complete(ctx, tx); err != nil {
			return err
		}
	}
	return in.checkRest(ctx, tx)
}

// Assigned is what an UPDATE of a record sets: encrypted columns, and plain ones that
// have to be written with them.
func (t *Table[R]) Assigned(row *R, plain []string) (set []field.Assignment, omit []string, err error) {
	w, set, err := t.assignedTo(row, plain)
	return set, w.Omit, err
}

func (t *Table[R]) assignedTo(row *R, plain []string) (w field.Write, set []field.Assignment, err error) {
	named, err := t.named(plain)
	if err != nil {
		return w, nil, err
	}
	w, columns, err := t.changes(row, named)
	if err != nil {
		return w, nil, err
	}
	set, err = t.assigned(w.Set, columns, row)
	return w, set, err
}

// UpdateBy writes a sealed record by an UPDATE that send sends: it sets the columns
// that [Table.Assigned] returned, and finds the row only if the columns in where hold
// what where says.
func UpdateBy[R any](ctx context.Context, db DB, t *Table[R], row *R, plain []string, send func(ctx context.Context, db DB, set, where []field.Assignment) (matched bool, err error)) error {
	named, err := t.named(plain)
	if err == nil {
		err = t.writeBy(ctx, db, row, named, func(ctx context.Context, db DB, row *R, w field.Write, columns []column) (bool, error) {
			set, err := t.assigned(w.Set, columns, row)
			if err != nil {
				return false, err
			}
			return send(ctx, db, set, w.Where)
		})
	}
	return Failed("update", t.record(row), err)
}
