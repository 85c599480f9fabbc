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
	stored, err := s.stored(ctx, tx, w)
	if err != nil {
		return err
	}
	var refused field.Failures
	for i, u := range w.updates {
		err := error(nil)
		switch {
		case w.written[i]:
			err = notKept(w.set, u.set, stored[i])
		case stored[i] != nil:
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
func notKept(columns []string, sent []driver.Value, stored [][]byte) error {
	if stored == nil {
		return fmt.Errorf("%w (the row is gone)", errNotKept)
	}
	for n, name := range columns {
		if !isStored(sent[n], stored[n]) {
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

// stored reads the columns that a batch has set, in the order of its updates. The
// result is nil for a row that does not exist.
func (s *Store[R]) stored(ctx context.Context, tx *sqlx.Tx, w *swap) ([][][]byte, error) {
	stored := make([][][]byte, len(w.updates))
	if s.rows == nil {
		return stored, s.storedEach(ctx, tx, w, stored)
	}
	columns := make([]string, len(w.set))
	for i, name := range w.set {
		columns[i] = "t." + s.dialect.Quoted(name)
	}
	query, args := s.rows(w.updates, strings.Join(columns, ", "))
	found, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var n int
		values := make([][]byte, len(w.set))
		targets := []any{&n}
		for i := range values {
			targets = append(targets, &values[i])
		}
		if err := found.Scan(targets...); err != nil {
			return nil, err
		}
		stored[n-1] = values
	}
	return stored, found.Err()
}

// storedEach is like stored, with one query for each row.
func (s *Store[R]) storedEach(ctx context.Context, tx *sqlx.Tx, w *swap, stored [][][]byte) error {
	statement, err := tx.PrepareContext(ctx, s.updated().Select(w.set))
	if err != nil {
		return err
	}
	defer statement.Close()
	for i, u := range w.updates {
		values := make([][]byte, len(w.set))
		targets := make([]any, len(w.set))
		for n := range values {
			targets[n] = &values[n]
		}
		found, err := statement.QueryContext(ctx, u.id...)
		if err != nil {
			return err
		}
		if found.Next() {
			if err := found.Scan(targets...); err != nil {
				found.Close()
				return err
			}
			stored[i] = values
		}
		if err := errors.Join(found.Err(), found.Close()); err != nil {
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
