package kmspgx

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// DB is a [*pgxpool.Pool], [*pgxpool.Conn], [*pgx.Conn] or [pgx.Tx]. Your own type
// works too. Unless it has the method Acquire of a pool it counts as a transaction.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error)
	Begin(ctx context.Context) (pgx.Tx, error)
}

func usableDB(db DB) error {
	if missing.Is(db) {
		return fmt.Errorf("kmspgx: %w: the database is nil", kmsencrypted.ErrConfig)
	}
	return nil
}

// connection returns the connection that db is, nil if it is a pool or a transaction.
func connection(db DB) *pgx.Conn {
	switch db := db.(type) {
	case *pgx.Conn:
		return db
	case *pgxpool.Conn:
		return db.Conn()
	}
	return nil
}

// isIdle reports whether a connection is outside a transaction, also one that the
// program began with a statement of its own.
func isIdle(conn *pgx.Conn) bool { return conn.PgConn().TxStatus() == 'I' }

// commits reports whether a statement that succeeded is committed.
func commits(db DB) bool {
	if conn := connection(db); conn != nil {
		return isIdle(conn)
	}
	_, isPool := db.(interface {
		Acquire(ctx context.Context) (*pgxpool.Conn, error)
	})
	return isPool
}

// atomically runs all statements or none: in a transaction of its own, or under a
// savepoint if db is in a transaction.
func atomically(ctx context.Context, db DB, statements func(DB) error) error {
	if conn := connection(db); conn != nil && !isIdle(conn) {
		return underSavepoint(ctx, db, statements)
	}
	tx, err := db.Begin(ctx) // a savepoint of a pgx.Tx
	if err != nil {
		return records.Hide(err, nil)
	}
	if err := statements(tx); err != nil {
		// Even if ctx has ended, because the caller may commit the rest.
		if undo := tx.Rollback(context.WithoutCancel(ctx)); undo != nil && !errors.Is(undo, pgx.ErrTxClosed) {
			return errors.Join(err, fmt.Errorf("kmspgx: roll the transaction back: %w", records.Hide(undo, nil)))
		}
		return err
	}
	return records.Hide(tx.Commit(ctx), nil)
}

// underSavepoint is for a transaction that pgx does not know.
func underSavepoint(ctx context.Context, db DB, statements func(DB) error) error {
	const name = " kmsencrypted" // nested savepoints may share a name
	if _, err := db.Exec(ctx, "SAVEPOINT"+name); err != nil {
		return records.Hide(err, nil)
	}
	if err := statements(db); err != nil {
		if _, undo := db.Exec(context.WithoutCancel(ctx), "ROLLBACK TO SAVEPOINT"+name); undo != nil {
			return errors.Join(err, fmt.Errorf("kmspgx: roll the transaction back: %w", records.Hide(undo, nil)))
		}
		return err
	}
	_, err := db.Exec(ctx, "RELEASE SAVEPOINT"+name)
	return records.Hide(err, nil)
}

// session is a DB for package records.
type session struct{ db DB }

func (s session) Commits() bool { return commits(s.db) }

func (s session) Atomically(ctx context.Context, statements func(records.DB) error) error {
	return atomically(ctx, s.db, func(tx DB) error { return statements(session{tx}) })
}

func (s session) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tag, err := s.db.Exec(ctx, query, args...)
	return driver.RowsAffected(tag.RowsAffected()), err
}

func (s session) Query(ctx context.Context, query string, args ...any) (sqldialect.Rows, error) {
	rows, err := s.db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return result{rows}, nil
}

// result is the result of a query for package records.
type result struct{ pgx.Rows }

func (r result) Close() error {
	r.Rows.Close()
	return r.Err()
}
