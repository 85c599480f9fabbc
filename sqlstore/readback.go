package sqlstore

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// A database may store a value other than the one sent, and report success.
// MariaDB and MySQL truncate a text that is too long unless they are strict. A trigger
// may change or skip a row, also at the end of the transaction, and a policy may
// hide it from UPDATE. So each batch is read back before it is committed, and
// compared byte by byte.

// errNotKept is the reason of a failure that reading back found.
var errNotKept = errors.New("the database did not keep the new value: look for a trigger, a policy, or a column that is too short")

// errSkipped is the reason of a failure of a row that the UPDATE skipped although
// nobody had changed it.
var errSkipped = errors.New("the database skipped the update of an unchanged row: look for a trigger or a policy")

// readBack compares the stored columns of a batch with the values sent. Rows that
// differ are an error of type leftOut.
func (s *Store[R]) readBack(ctx context.Context, tx *sqlx.Tx, w *swap) error {
	if s.dialect == field.Postgres { // deferred triggers change rows as well
		if _, err := tx.ExecContext(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
			return err
		}
	}
	exists, differs := make([]bool, len(w.updates)), make([]error, len(w.updates))
	err := s.stored(ctx, tx, w, func(i int, stored []rawValue) {
		if exists[i] = true; w.written[i] {
			differs[i] = notKept(w.set, w.updates[i].set, stored)
		}
	})
	if err != nil {
		return err
	}
	var refused field.Failures
	for i, u := range w.updates {
		err := differs[i]
		switch {
		case w.written[i] && !exists[i]:
			err = fmt.Errorf("%w (the row is gone)", errNotKept)
		case !w.written[i] && exists[i]:
			err = s.skipped(ctx, tx, w, u)
		}
		if err != nil && !errors.Is(err, errNotKept) && !errors.Is(err, errSkipped) {
			return err
		}
		if err != nil {
			refused = append(refused, field.Failure{Index: i, Err: err})
		}
	}
	if refused != nil {
		return leftOut{refused}
	}
	return nil
}

// notKept returns the first column whose stored value is not the one sent.
func notKept(columns []string, sent []driver.Value, stored []rawValue) error {
	for n, name := range columns {
		if !isStored(sent[n], stored[n].bytes) {
			return fmt.Errorf("%w (column %s)", errNotKept, name)
		}
	}
	return nil
}

// isStored compares a value that was sent with one that was read back. NULL is a
// nil slice, and so is an empty BLOB of SQLite.
func isStored(sent driver.Value, stored []byte) bool {
	switch v := sent.(type) {
	case nil:
		return stored == nil
	case string:
		return v == string(stored) && (stored != nil || v == "")
	case []byte:
		return bytes.Equal(v, stored)
	}
	return false // nothing of ours
}

// stored reads the columns that a batch has set, and calls each with the number of the
// update and the values, which are valid during the call, for every row that exists.
func (s *Store[R]) stored(ctx context.Context, tx *sqlx.Tx, w *swap, each func(i int, stored []rawValue)) error {
	if s.rows == nil {
		return s.storedEach(ctx, tx, w, each)
	}
	columns := make([]string, len(w.set))
	for i, name := range w.set {
		columns[i] = "t." + s.dialect.Quoted(name)
	}
	query, args := s.rows(w.updates, strings.Join(columns, ", "))
	found, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer found.Close()
	var n int
	values, targets := rawTargets(len(w.set))
	targets = append([]any{&n}, targets...)
	for found.Next() {
		if err := found.Scan(targets...); err != nil {
			return err
		}
		each(n-1, values)
	}
	return found.Err()
}

// rawValue scans the bytes of one value after another. They are nil for NULL, and never
// for an empty text, as those of [sql.RawBytes] may be.
type rawValue struct{ bytes, room []byte }

func (r *rawValue) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		r.bytes = nil
		return nil
	case string:
		r.room = append(r.room[:0], v...)
	case []byte:
		r.room = append(r.room[:0], v...)
	default:
		r.room = fmt.Append(r.room[:0], v)
	}
	if r.bytes = r.room; r.bytes == nil {
		r.bytes = []byte{}
	}
	return nil
}

func rawTargets(n int) (values []rawValue, targets []any) {
	values, targets = make([]rawValue, n), make([]any, n)
	for i := range values {
		targets[i] = &values[i]
	}
	return values, targets
}

// storedEach is like stored, with one query for each row.
func (s *Store[R]) storedEach(ctx context.Context, tx *sqlx.Tx, w *swap, each func(i int, stored []rawValue)) error {
	statement, err := tx.PrepareContext(ctx, s.updated().Select(w.set))
	if err != nil {
		return err
	}
	defer statement.Close()
	values, targets := rawTargets(len(w.set))
	one := func(i int, u update) error {
		found, err := statement.QueryContext(ctx, u.id...)
		if err != nil {
			return err
		}
		defer found.Close()
		if found.Next() {
			if err := found.Scan(targets...); err != nil {
				return err
			}
			each(i, values)
		}
		return errors.Join(found.Err(), found.Close())
	}
	for i, u := range w.updates {
		if err := one(i, u); err != nil {
			return err
		}
	}
	return nil
}

// skipped returns errSkipped for a row that is unchanged since it was read, and nil
// for one that somebody changed.
func (s *Store[R]) skipped(ctx context.Context, tx *sqlx.Tx, w *swap, u update) error {
	q := s.dialect.Statement("SELECT count(*) FROM ")
	q.Table(s.Table())
	q.Where(names(s.ids), conditions(s.dialect, w.same)...)
	args := appendValues(slices.Clone(u.id), u.same)
	var unchanged int
	err := tx.GetContext(ctx, &unchanged, q.String(), args...)
	if err == nil && unchanged > 0 {
		err = errSkipped
	}
	return err
}
