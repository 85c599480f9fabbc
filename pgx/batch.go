package kmspgx

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

// Batch writes records of any models in one round trip, and other statements with
// them. The zero value is empty. A Batch is sent once, and is not safe for
// concurrent use. Records of one model that are queued one after the other are sealed
// together.
//
//	var b kmspgx.Batch
//	kmspgx.QueueInsert(&b, orders, &order)
//	kmspgx.QueueUpdate(&b, customers, &c, "name")
//	b.Queue("UPDATE totals SET orders = orders + 1")
//	err := b.Send(ctx, db)
type Batch struct {
	steps  []step
	queued map[any]bool
	err    error
	sent   bool
}

// step is a part of a batch.
type step interface {
	// begin seals records, before there is a transaction.
	begin(ctx context.Context, db DB) error
	// queue adds statements to a batch. rest is what has to be done when these were
	// sent, nil if nothing.
	queue(ctx context.Context, b *pgx.Batch) (rest func(ctx context.Context, tx DB) error, err error)
	// end tells the records whether they were written, and adds the record to err.
	end(committed bool, err error)
}

// Queue adds a statement, like [pgx.Batch.Queue].
func (b *Batch) Queue(query string, args ...any) *pgx.QueuedQuery {
	q := new(pgx.Batch).Queue(query, args...)
	b.steps = append(b.steps, &other{q})
	return q
}

// QueueInsert adds an [Insert] of records.
func QueueInsert[R any](b *Batch, m *field.Model[R], rows ...*R) {
	if len(rows) == 0 || !take(b, "insert", m, rows...) {
		return
	}
	if last, ok := b.last().(*insertion[R]); ok && last.model == m {
		last.rows = append(last.rows, rows...)
		return
	}
	b.steps = append(b.steps, &insertion[R]{model: m, rows: slices.Clone(rows)})
}

// QueueUpdate adds an [Update] of a record. Like Update it does nothing if there is
// nothing to write, and the error of Send is [kmsencrypted.ErrConflict] if another
// program gave the row another data key.
func QueueUpdate[R any](b *Batch, m *field.Model[R], row *R, plain ...string) {
	if !take(b, "update", m, row) {
		return
	}
	if last, ok := b.last().(*updates[R]); ok && last.model == m {
		last.rows, last.plain = append(last.rows, row), append(last.plain, plain)
		return
	}
	b.steps = append(b.steps, &updates[R]{model: m, rows: []*R{row}, plain: [][]string{plain}})
}

// last returns the last step. It is extended by a call for the same model, because
// the data keys of one step are made concurrently.
func (b *Batch) last() step {
	if len(b.steps) == 0 {
		return nil
	}
	return b.steps[len(b.steps)-1]
}

// take checks records. What is written of a record depends on what was written
// before, so each is queued once.
func take[R any](b *Batch, op string, m *field.Model[R], rows ...*R) bool {
	if b.queued == nil {
		b.queued = make(map[any]bool)
	}
	err := m.Adapter().Check(rows...)
	for _, row := range rows {
		if err == nil && b.queued[row] {
			err = fmt.Errorf("%w: a record is in the batch twice", kmsencrypted.ErrConfig)
		}
		b.queued[row] = true
	}
	if err != nil {
		b.err = errors.Join(b.err, failed(op, m.Table(), err))
	}
	return err == nil
}

// Send seals the records and writes all or nothing: in a transaction, or under a
// savepoint if db is one. Statements are sent in the order of the calls. Records whose
// ids the database assigns only with the row, updates that give a row a new data key,
// and those that did not match at once follow, with statements of their own.
//
// After an error no record is written and each still has its changes. The error
// names the record, if a single one was to blame.
func (b *Batch) Send(ctx context.Context, db DB) (err error) {
	if err := b.usable(db); err != nil {
		return err
	}
	b.sent = true
	begun := 0
	defer func() {
		committed := err == nil && commits(db)
		for _, s := range b.steps[:begun] {
			s.end(committed, err)
		}
	}()
	for _, s := range b.steps {
		begun++
		if err := s.begin(ctx, db); err != nil {
			return err
		}
	}
	return failed("batch", "", atomically(ctx, db, func(tx DB) error { return b.write(ctx, tx) }))
}

func (b *Batch) usable(db DB) error {
	switch {
	case b.err != nil:
		return b.err
	case b.sent:
		return fmt.Errorf("kmspgx: %w: the batch was sent before", kmsencrypted.ErrConfig)
	}
	return usableDB(db)
}

func (b *Batch) write(ctx context.Context, tx DB) error {
	batch := new(pgx.Batch)
	var rests []func(context.Context, DB) error
	for _, s := range b.steps {
		rest, err := s.queue(ctx, batch)
		if err != nil {
			return err
		}
		if rest != nil {
			rests = append(rests, rest)
		}
	}
	if batch.Len() > 0 {
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return hideBatch(err, batch)
		}
	}
	for _, rest := range rests {
		if err := rest(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// hideBatch hides what an error may quote, which a step has not done if the batch
// was not sent.
func hideBatch(err error, batch *pgx.Batch) error {
	if _, ok := errors.AsType[*kmsencrypted.Error](err); ok {
		return err
	}
	var args []any
	for _, q := range batch.QueuedQueries {
		args = append(args, q.Arguments...)
	}
	return records.Hide(err, args)
}

// queue adds a statement to a batch. named adds the record to its error.
func queue(ctx context.Context, b *pgx.Batch, s records.Statement, named func(error) error) {
	q := b.Queue(s.Query, s.Args...)
	q.Fn = func(results pgx.BatchResults) error {
		rows, err := results.Query()
		if err == nil {
			affected := func() int64 {
				rows.Close()
				return rows.CommandTag().RowsAffected()
			}
			err = s.Result(ctx, result{rows}, affected)
			rows.Close()
			if failure := rows.Err(); failure != nil { // and so there was no result
				err = failure
			}
		}
		return named(records.Hide(err, s.Args))
	}
}

// other is a statement of the program's own.
type other struct{ query *pgx.QueuedQuery }

func (o *other) begin(context.Context, DB) error { return nil }
func (o *other) end(bool, error)                 {}

func (o *other) queue(_ context.Context, b *pgx.Batch) (func(context.Context, DB) error, error) {
	b.QueuedQueries = append(b.QueuedQueries, o.query)
	return nil, nil
}

// insertion is an insert of records in a batch.
type insertion[R any] struct {
	model *field.Model[R]
	rows  []*R
	in    *records.Insertion[R]
}

func (s *insertion[R]) begin(ctx context.Context, db DB) error {
	t, err := tableFor("insert", db, s.model, s.rows...)
	if err == nil {
		s.in, err = t.Begin(ctx, session{db}, s.rows)
	}
	return failed("insert", s.model.Table(), err)
}

func (s *insertion[R]) queue(ctx context.Context, b *pgx.Batch) (func(context.Context, DB) error, error) {
	statements, err := s.in.Statements()
	if err != nil {
		return nil, err
	}
	for _, statement := range statements {
		queue(ctx, b, statement, s.in.Failed)
	}
	return func(ctx context.Context, tx DB) error { return s.in.Failed(s.in.WriteRest(ctx, session{tx})) }, nil
}

func (s *insertion[R]) end(committed bool, err error) {
	if s.in != nil {
		s.in.End(committed, err)
	}
}

// updates are updates of records of one model in a batch.
type updates[R any] struct {
	model   *field.Model[R]
	rows    []*R
	plain   [][]string
	changes []*records.Change[R]
}

func (s *updates[R]) begin(ctx context.Context, db DB) error {
	t, err := tableFor("update", db, s.model, s.rows...)
	if err != nil {
		return err
	}
	for i, row := range s.rows {
		change, err := t.Change(row, s.plain[i]...)
		if err != nil {
			return err
		}
		s.changes = append(s.changes, change)
	}
	return s.model.Seal(ctx, s.rows...)
}

func (s *updates[R]) queue(ctx context.Context, b *pgx.Batch) (func(context.Context, DB) error, error) {
	for _, change := range s.changes {
		statement, ok, err := change.Statement()
		if err != nil {
			return nil, change.Failed(err)
		}
		if ok {
			queue(ctx, b, statement, change.Failed)
		}
	}
	return func(ctx context.Context, tx DB) error {
		for _, change := range s.changes {
			if err := change.Finish(ctx, session{tx}); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (s *updates[R]) end(committed bool, _ error) {
	for _, change := range s.changes {
		change.End(committed)
	}
}
