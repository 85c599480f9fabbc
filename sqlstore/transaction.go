package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

func ledgerError(op string, err error) error {
	if err == nil || errors.Is(err, rotation.ErrLeaseLost) {
		return err
	}
	return fmt.Errorf("sqlstore: %s: %w", op, markAway(older(err)))
}

// older says what to do about tables that are missing, or lack a column of this release.
func older(err error) error {
	if sqldialect.NoTable(err) || sqldialect.NoColumn(err) {
		return fmt.Errorf("%w: the tables of rotations are missing or of an older release: call CreateTables, or type \"rotate init\": %w", kmsencrypted.ErrConfig, err)
	}
	return err
}

// retried runs a transaction of the ledger.
func (s *Store[R]) retried(ctx context.Context, op string, do func(*sqlx.Tx) error) error {
	if err := s.usable(); err != nil {
		return err
	}
	return ledgerError(op, patiently(func() error { return s.transaction(ctx, do) }))
}

func (s *Store[R]) transaction(ctx context.Context, do func(*sqlx.Tx) error) error {
	return s.inSession(ctx, func(conn *sqlx.Conn) error {
		tx, err := s.begin(ctx, conn)
		if err != nil {
			return err
		}
		defer tx.Rollback() // does nothing after Commit
		if err := do(tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// again repeats an operation that changes nothing if it fails, until it loses no
// race with other transactions.
func again(do func() error) (err error) { return repeated(do, sqldialect.Transient) }

// patiently is like again, and also repeats the operation if it waits too long for a
// lock.
func patiently(do func() error) error {
	return repeated(do, func(err error) bool { return sqldialect.Transient(err) || isLockTimeout(err) })
}

func repeated(do func() error, passes func(error) bool) (err error) {
	const tries = 10
	for try := range tries {
		if err = do(); err == nil || !passes(err) {
			break
		}
		time.Sleep(time.Duration(try+1) * 10 * time.Millisecond)
	}
	return err
}

// Execer is a database or a transaction.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// exec runs a statement and reports whether it changed any row.
func (s *Store[R]) exec(ctx context.Context, db Execer, query string, args ...any) (changed bool, err error) {
	result, err := db.ExecContext(ctx, s.dialect.SQL(query), args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
