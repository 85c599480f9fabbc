package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// swap is the updates of one batch, all of the same columns. Every column that is
// set is also compared.
type swap struct {
	run     string
	set     []string
	same    []column // that must be unchanged since they were read
	indexes []int    // of the records, beside updates
	updates []update
	written []bool // beside updates
	// which makes PostgreSQL tell which rows it has written. The number is enough while
	// it is that of all, which is nearly always, and costs less.
	which bool
}

// errSome means that some rows were written, and some were not: the batch is repeated
// with swap.which.
var errSome = errors.New("some records of the batch were changed by another process")

// allOrNone notes that all updates were written, or none, or returns errSome.
func (s *swap) allOrNone(result sql.Result) error {
	n, err := result.RowsAffected()
	if err == nil && n != 0 && n != int64(len(s.updates)) {
		err = errSome
	}
	for i := range s.written {
		s.written[i] = err == nil && n > 0
	}
	return err
}

// update is the update of one record.
type update struct {
	id        []any
	set, same []driver.Value
}

// addColumn records that a column is set. It refuses one that is not compared.
func (s *swap) addColumn(name string) error {
	if s.at(name) < 0 {
		return fmt.Errorf("sqlstore: %w: column %s is written and not compared", kmsencrypted.ErrConfig, name)
	}
	if s.atSet(name) < 0 {
		s.set = append(s.set, name)
	}
	return nil
}

func (s *swap) at(name string) int {
	return slices.IndexFunc(s.same, func(c column) bool { return c.name == name && !c.witness })
}
func (s *swap) atSet(name string) int { return slices.Index(s.set, name) }

// moves reports whether an update changes an existing wrapped key.
func (s *swap) moves(update int, key string) bool {
	u, at := s.updates[update], s.atSet(key)
	return at >= 0 && u.same[s.at(key)] != nil && !reflect.DeepEqual(u.same[s.at(key)], u.set[at])
}

func (s *swap) count() (n int64) {
	for _, written := range s.written {
		if written {
			n++
		}
	}
	return n
}

// Write implements [rotation.Batch]. It tries again after a deadlock or a lost race
// of transactions, which write nothing.
func (b *batch[R]) Write(ctx context.Context, to rotation.Position) (outcome rotation.Outcome, err error) {
	defer b.wipe(0, len(b.rows))
	s, err := b.swap(to.Shard.Run)
	if err != nil {
		return outcome, err
	}
	if to.Allow == nil {
		to.Allow = unlimited
	}
	if b.store.dialect == field.SQLite {
		if err := b.bookProofs(ctx, s, to.Allow); err != nil {
			return outcome, err
		}
		to.Allow = unlimited
	}
	write := func() error {
		outcome, err = b.write(ctx, s, to)
		return err
	}
	for setAside := false; ; {
		err = again(write)
		left, isLeft := errors.AsType[leftOut](err)
		switch {
		case isLeft:
			b.leaveOut(s, left.Failures)
		case errors.Is(err, errSome):
			s.which = true
		case err != nil && b.store.shrinks(ctx, err): // the same in smaller statements
		case err != nil && sqldialect.RefusesRow(err) && !setAside:
			setAside = true
			if err := b.setAside(ctx, s); err != nil {
				return outcome, fmt.Errorf("sqlstore: write %s: %w", b.store.Table(), markAway(err))
			}
		default:
			return outcome, markAway(lockedOrOther(err))
		}
	}
}

// lockedOrOther marks errors that a smaller batch may avoid.
func lockedOrOther(err error) error {
	if err != nil && isLockTimeout(err) {
		return fmt.Errorf("%w: %w", rotation.ErrLocked, err)
	}
	return err
}

func (b *batch[R]) write(ctx context.Context, s *swap, to rotation.Position) (outcome rotation.Outcome, err error) {
	err = b.store.transaction(ctx, func(tx *sqlx.Tx) error {
		outcome, err = b.writeIn(ctx, tx, s, to)
		return err
	})
	if err != nil {
		return rotation.Outcome{}, fmt.Errorf("sqlstore: write %s: %w", b.store.Table(), err)
	}
	return outcome, nil
}

// writeIn writes the records, the journal, the failures and the position in one
// transaction.
func (b *batch[R]) writeIn(ctx context.Context, tx *sqlx.Tx, s *swap, to rotation.Position) (o rotation.Outcome, err error) {
	s.written = make([]bool, len(s.updates))
	if len(s.updates) > 0 {
		if err := b.store.writes(ctx, tx, s); err != nil {
			return o, err
		}
		if err := b.store.readBack(ctx, tx, s); err != nil {
			return o, err
		}
		if b.rekeys {
			if err := b.store.knowsColumns(ctx, tx); err != nil {
				return o, err
			}
		}
		if err := b.prove(ctx, tx, s, to.Allow); err != nil {
			return o, err
		}
	}
	if err := b.moveDependents(ctx, tx, s); err != nil {
		return o, err
	}
	conflicts := b.conflicts(s)
	b.unmoved = nil
	if to.Final {
		conflicts, b.unmoved = nil, conflicts
	}
	o = rotation.Outcome{Written: s.count(), Conflicts: int64(len(conflicts)), Failed: int64(len(b.Failures()))}
	if b.journals {
		if err := b.journal(ctx, tx, s); err != nil {
			return o, err
		}
	}
	if err := b.store.recordFailures(ctx, tx, to.Shard, b.Failures()); err != nil {
		return o, err
	}
	to.Calls += b.proofs
	return o, b.store.advance(ctx, tx, to, o)
}

// conflicts are the records that somebody else changed, and those whose key
// service does not answer. The next pass handles them again.
func (b *batch[R]) conflicts(s *swap) (list []rotation.Failure) {
	add := func(id []any, err error) {
		list = append(list, rotation.Failure{Record: b.store.recordName(id), Class: classOf(err), Err: err})
	}
	for i, written := range s.written {
		if !written {
			add(s.updates[i].id, kmsencrypted.ErrConflict)
		}
	}
	for _, r := range b.records {
		if r.state == waiting && r.away != nil {
			add(r.id, r.away)
		}
	}
	return list
}

func (s *Store[R]) begin(ctx context.Context, conn *sqlx.Conn) (*sqlx.Tx, error) {
	var options sql.TxOptions
	if dialects[s.dialect].readCommitted {
		options.Isolation = sql.LevelReadCommitted
	}
	return conn.BeginTxx(ctx, &options)
}

// isLockTimeout reports whether another process held a lock for longer than a batch
// waits, or a statement of the batch took too long.
func isLockTimeout(err error) bool {
	if state, ok := sqldialect.SQLState(err); ok {
		return state == "55P03" || state == "57014"
	}
	return mentions(err, "Error 1205", "Error 1969")
}

func mentions(err error, known ...string) bool {
	text := err.Error()
	return slices.ContainsFunc(known, func(k string) bool { return strings.Contains(text, k) })
}

// updated returns the table in the form that the builder of statements takes.
func (s *Store[R]) updated() sqldialect.Table {
	return sqldialect.Table{Dialect: s.dialect, Name: s.Table(), IDs: names(s.ids)}
}

// conditions are true for a row whose columns are unchanged since they were read.
func conditions(d field.Dialect, columns []column) []sqldialect.Condition {
	same := make([]sqldialect.Condition, len(columns))
	for i, c := range columns {
		same[i] = sqldialect.Condition{Column: c.name, Values: 1}
		if c.witness {
			same[i].As = dialects[d].witnessed
		}
	}
	return same
}

// updateEach makes one prepared UPDATE for each record.
func (s *Store[R]) updateEach(ctx context.Context, tx *sqlx.Tx, w *swap) error {
	return s.updateWhere(ctx, tx, w, conditions(s.dialect, w.same))
}

// updateWhere is updateEach with other comparisons.
func (s *Store[R]) updateWhere(ctx context.Context, tx *sqlx.Tx, w *swap, same []sqldialect.Condition) error {
	table := s.updated()
	statement, err := tx.PrepareContext(ctx, table.Update(w.set, same))
	if err != nil {
		return err
	}
	defer statement.Close()
	args := make([]any, 0, len(w.set)+len(s.ids)+len(w.same))
	for i, u := range w.updates {
		args = appendValues(append(appendValues(args[:0], u.set), u.id...), u.same)
		result, err := statement.ExecContext(ctx, args...)
		if err != nil {
			return err
		}
		if w.written[i], err = table.Matched(result); err != nil {
			return err
		}
	}
	return nil
}

func appendValues(args []any, values []driver.Value) []any {
	for _, v := range values {
		args = append(args, v)
	}
	return args
}

func (s *Store[R]) recordFailures(ctx context.Context, tx *sqlx.Tx, shard rotation.Shard, failures []rotation.Failure) error {
	values := make([][]any, len(failures))
	for i, f := range failures {
		values[i] = []any{shard.Run, shard.Number, f.Record, f.Class, cut(f.Err.Error())}
	}
	return s.insert(ctx, tx, "kms_rotation_failures", []string{"rotation_id", "shard", "record", "class", "reason"}, values)
}

// cut limits the length of a text.
func cut(text string) string {
	const most = 500
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// insert inserts rows into a table of the ledger, many at a time.
func (s *Store[R]) insert(ctx context.Context, tx *sqlx.Tx, table string, columns []string, values [][]any) error {
	if s.dialect == field.Postgres && len(values) > 0 {
		return older(s.insertAll(ctx, tx, table, columns, values))
	}
	const most = 500 // rows; below every database's limit of arguments
	for rows := range slices.Chunk(values, most) {
		q := s.dialect.Statement(s.dialect.Strict("INSERT INTO "), table, " (", strings.Join(columns, ", "), ") VALUES ")
		q.Rows(rows)
		if _, err := tx.ExecContext(ctx, q.String(), q.Args...); err != nil {
			return older(err)
		}
	}
	return nil
}
