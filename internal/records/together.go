package records

import (
	"context"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/conditional"
	"github.com/kmsencrypted/kmsencrypted/internal/spelling"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Statement is a statement that is sent together with others, inside a transaction.
// Result reads what became of it.
type Statement struct {
	Query  string
	Args   []any
	Result func(ctx context.Context, rows sqldialect.Rows, affected func() int64) error
}

// Statements returns the INSERTs of the records whose ids are known.
func (in *Insertion[R]) Statements() (list []Statement, err error) {
	columns := names(in.columns)
	err = in.eachChunk(in.known, in.columns, in.RowsPerInsert(len(columns)), func(rows []*R, args []any) error {
		s := Statement{Query: in.Insert(columns, len(rows)), Args: args, Result: ignored}
		if in.spells {
			s.Query = in.InsertTelling(names(in.bound), columns, len(rows))
			s.Result = func(_ context.Context, told sqldialect.Rows, _ func() int64) error {
				lost, err := spelling.Check(in.model, rows, in.scanBound(told))
				return in.of(lost, err)
			}
		}
		list = append(list, s)
		return nil
	})
	return list, err
}

func ignored(context.Context, sqldialect.Rows, func() int64) error { return nil }

// WriteRest inserts the records whose ids the database assigns, after
// [Insertion.Statements] inserted the others.
func (in *Insertion[R]) WriteRest(ctx context.Context, db DB) error {
	rest := *in
	rest.known = nil
	if err := rest.Write(ctx, db); err != nil {
		return err
	}
	return in.readReturned(ctx, db, in.known)
}

// NeedsIDs returns [kmsencrypted.ErrNoID] unless all ids are known.
func (in *Insertion[R]) NeedsIDs() error {
	if len(in.unknown) == 0 {
		return nil
	}
	return fmt.Errorf("%w: only an INSERT makes the ids of %s: set them, or use Insert", kmsencrypted.ErrNoID, in.Name)
}

// Values returns the columns of the records whose ids are known.
func (in *Insertion[R]) Values() (columns []string, values [][]any, err error) {
	for _, row := range in.known {
		args, err := in.values(nil, in.columns, row)
		if err != nil {
			return nil, nil, err
		}
		values = append(values, args)
	}
	return names(in.columns), values, nil
}

// ReadsAgain reports whether [Insertion.ReadAgain] is needed.
func (in *Insertion[R]) ReadsAgain() bool { return in.spells || len(in.returned) > 0 }

// ReadAgain reads rows that were written in this transaction: the columns that the
// database filled, and those that records are bound to. It returns
// [kmsencrypted.ErrLossy] if one of these is not that of its record.
func (in *Insertion[R]) ReadAgain(ctx context.Context, db DB) error {
	if err := in.checkRest(ctx, db); err != nil {
		return err
	}
	return in.readReturned(ctx, db, in.known)
}

// checkRest compares the rows that [Insertion.Complete] does not.
func (in *Insertion[R]) checkRest(ctx context.Context, db DB) error {
	rows := in.known
	if !in.later {
		rows = slices.Concat(rows, in.unknown)
	}
	return in.checkTold(ctx, db, rows)
}

// Change is an update that is sent together with others.
type Change[R any] struct {
	table   *Table[R]
	row     *R
	named   []column
	sent    bool // its statement, and
	written bool // it found the row
}

// Change returns an update of a record with named plain columns. The caller seals
// the record, and calls End.
func (t *Table[R]) Change(row *R, plain ...string) (*Change[R], error) {
	columns, err := t.named(plain)
	if err != nil {
		return nil, Failed("update", t.Name, err)
	}
	return &Change[R]{table: t, row: row, named: columns}, nil
}

// Statement returns the UPDATE, if it is one that needs no other before it.
func (c *Change[R]) Statement() (s Statement, ok bool, err error) {
	t := c.table
	w, columns, err := t.changes(c.row, c.named)
	if err != nil {
		return s, false, err
	}
	if len(w.Set)+len(columns) == 0 || w.Key != field.KeyKept || t.binds(w, columns) {
		return s, false, nil
	}
	if w.Set, err = t.assigned(w.Set, columns, c.row); err != nil {
		return s, false, err
	}
	c.sent = true
	s.Query, s.Args = conditional.Update(t.Table, w, t.id(c.row))
	s.Result = func(_ context.Context, _ sqldialect.Rows, affected func() int64) error {
		c.written = affected() > 0
		return nil
	}
	return s, true, nil
}

// Finish writes the record if its statement was not sent or matched no row.
func (c *Change[R]) Finish(ctx context.Context, db DB) error {
	if c.written {
		return nil
	}
	return c.Failed(c.table.write(ctx, db, c.row, c.named))
}

// Failed adds the record to an error.
func (c *Change[R]) Failed(err error) error { return Failed("update", c.table.record(c.row), err) }

// End tells the record whether it was written for good. Otherwise only the answer
// may have been lost.
func (c *Change[R]) End(committed bool) {
	switch {
	case committed:
		c.table.model.Saved(c.row)
	case c.sent:
		c.table.model.Sent(c.row)
	}
}
