package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
)

// swap is the updates of one batch, all of the same columns. Every column that
// is set is also compared.
type swap struct {
	run     string
	set     []string
	same    []string // columns that must still be what was read
	indexes []int    // of the records, beside updates
	updates []update
	written []bool // beside updates
}

// update is that of one record.
type update struct {
	id        []any
	set, same []driver.Value
}

// addColumn notes that a column is set. It refuses one that is not compared.
func (s *swap) addColumn(name string) error {
	if s.at(name) < 0 {
		return fmt.Errorf("sqlstore: %w: column %s is written and not compared", kmsencrypted.ErrConfig, name)
	}
	if s.atSet(name) < 0 {
		s.set = append(s.set, name)
	}
	return nil
}

func (s *swap) at(name string) int    { return slices.Index(s.same, name) }
func (s *swap) atSet(name string) int { return slices.Index(s.set, name) }

func (s *swap) count() (n int64) {
	for _, written := range s.written {
		if written {
			n++
		}
	}
	return n
}

// Write implements [kmsencrypted.Batch]. It tries again after a deadlock or a
// lost race of transactions: nothing was written then.
func (b *batch[R]) Write(ctx context.Context, to kmsencrypted.Position) (outcome kmsencrypted.Outcome, err error) {
	defer b.wipe(0, len(b.rows))
	s, err := b.swap(to.Shard.Run)
	if err != nil {
		return outcome, err
	}
	write := func() error {
		outcome, err = b.write(ctx, s, to)
		return err
	}
	for setAside := false; ; {
		err = again(write)
		left, isLeft := errors.AsType[dependentsFailed](err)
		switch {
		case isLeft:
			b.leaveOut(s, left.Failures)
		case err != nil && isRefusal(err) && !setAside:
			setAside = true
			if err := b.setAside(ctx, s); err != nil {
				return outcome, fmt.Errorf("sqlstore: write %s: %w", b.store.Table(), err)
			}
		default:
			return outcome, err
		}
	}
}

func (b *batch[R]) write(ctx context.Context, s *swap, to kmsencrypted.Position) (outcome kmsencrypted.Outcome, err error) {
	err = b.store.transaction(ctx, func(tx *sqlx.Tx) error {
		outcome, err = b.writeIn(ctx, tx, s, to)
		return err
	})
	if err != nil {
		return kmsencrypted.Outcome{}, fmt.Errorf("sqlstore: write %s: %w", b.store.Table(), err)
	}
	return outcome, nil
}

// writeIn makes one transaction of the records, the journal, the failures and the
// position.
func (b *batch[R]) writeIn(ctx context.Context, tx *sqlx.Tx, s *swap, to kmsencrypted.Position) (o kmsencrypted.Outcome, err error) {
	s.written = make([]bool, len(s.updates))
	if len(s.updates) > 0 {
		if err := b.store.writes(ctx, tx, s); err != nil {
			return o, err
		}
	}
	if err := b.moveDependents(ctx, tx, s); err != nil {
		return o, err
	}
	o.Written, o.Failed = s.count(), int64(len(b.failures))
	o.Conflicts = int64(len(s.updates)) - o.Written
	if b.kind == kmsencrypted.KindRekey {
		if err := b.store.journal(ctx, tx, s); err != nil {
			return o, err
		}
	}
	if err := b.store.recordFailures(ctx, tx, to.Shard, b.failures); err != nil {
		return o, err
	}
	return o, b.store.advance(ctx, tx, to, o)
}

func (s *Store[R]) begin(ctx context.Context) (*sqlx.Tx, error) {
	var options sql.TxOptions
	if s.dialect.readCommitted {
		options.Isolation = sql.LevelReadCommitted
	}
	return s.db.BeginTxx(ctx, &options)
}

// isTransient reports a deadlock, a serialization failure or a busy database.
// Drivers have no common way to say so; the texts are those of MySQL's and
// SQLite's, which this package does not import.
func isTransient(err error) bool {
	if state, ok := sqlState(err); ok {
		return state == "40P01" || state == "40001" || state == "55P03"
	}
	text := err.Error()
	return slices.ContainsFunc([]string{"Error 1213", "Error 1205", "Error 1020", "SQLITE_BUSY", "database is locked"}, func(known string) bool {
		return strings.Contains(text, known)
	})
}

// updateEach makes one prepared UPDATE for each record.
func (s *Store[R]) updateEach(ctx context.Context, tx *sqlx.Tx, w *swap) error {
	var q strings.Builder
	q.WriteString("UPDATE " + s.dialect.table(s.Table()) + " SET ")
	for i, name := range w.set {
		if i > 0 {
			q.WriteString(", ")
		}
		q.WriteString(s.dialect.quoted(name) + " = ?")
	}
	q.WriteString(" WHERE ")
	for i, c := range s.ids {
		if i > 0 {
			q.WriteString(" AND ")
		}
		q.WriteString(s.dialect.quoted(c.name) + " = ?")
	}
	for _, name := range w.same {
		q.WriteString(" AND " + s.dialect.quoted(name) + " " + s.dialect.same + " ?")
	}
	statement, err := tx.PrepareContext(ctx, q.String())
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
		// MySQL counts rows that changed; a wrapped key always does.
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		w.written[i] = n > 0
	}
	return nil
}

func appendValues(args []any, values []driver.Value) []any {
	for _, v := range values {
		args = append(args, v)
	}
	return args
}

// journal keeps the wrapped keys that a rekey replaced, so that what was missed
// can be healed and an old backup be read.
func (s *Store[R]) journal(ctx context.Context, tx *sqlx.Tx, w *swap) error {
	var values [][]any
	for i, u := range w.updates {
		if !w.written[i] {
			continue
		}
		for _, key := range s.keys {
			if old := u.same[w.at(key.name)]; old != nil {
				values = append(values, []any{w.run, s.Table(), encodeKey(u.id), key.name, old})
			}
		}
	}
	return s.insert(ctx, tx, "kms_rotation_journal", []string{"rotation_id", "table_name", "record", "key_column", "wrapped_key"}, values)
}

func (s *Store[R]) recordFailures(ctx context.Context, tx *sqlx.Tx, shard kmsencrypted.Shard, failures []kmsencrypted.Failure) error {
	values := make([][]any, len(failures))
	for i, f := range failures {
		values[i] = []any{shard.Run, shard.Number, f.Record, f.Class, cut(f.Err.Error())}
	}
	return s.insert(ctx, tx, "kms_rotation_failures", []string{"rotation_id", "shard", "record", "class", "reason"}, values)
}

// cut bounds a text.
func cut(text string) string {
	const most = 500
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// insert inserts rows into a table of the ledger, many at a time.
func (s *Store[R]) insert(ctx context.Context, tx *sqlx.Tx, table string, columns []string, values [][]any) error {
	const most = 500 // rows; below what any database takes of arguments
	for rows := range slices.Chunk(values, most) {
		q := &statement{dialect: s.dialect}
		q.add("INSERT INTO ", table, " (", strings.Join(columns, ", "), ") VALUES ")
		for i, row := range rows {
			if i > 0 {
				q.add(", ")
			}
			q.add("(")
			for n, v := range row {
				if n > 0 {
					q.add(", ")
				}
				q.arg(v)
			}
			q.add(")")
		}
		if _, err := tx.ExecContext(ctx, q.String(), q.args...); err != nil {
			return err
		}
	}
	return nil
}
