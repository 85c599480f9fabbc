package kmsbun

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/kmsencrypted/kmsencrypted/internal/records"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// session is the connection of a query, for package records.
type session struct {
	sqldialect.Session
	conn  bun.IConn
	depth int // of savepoints
}

func sessionOn(conn bun.IConn) session { return session{sqldialect.Of(conn), conn, 0} }

// Commits reports whether a statement that succeeded is committed. A connection may be
// in a transaction that the program began with a statement of its own.
func (s session) Commits() bool {
	_, ok := s.conn.(*sql.DB)
	return ok
}

// Atomically runs all statements or none: in a transaction of its own, or under a
// savepoint if the connection is a transaction.
func (s session) Atomically(ctx context.Context, statements func(records.DB) error) error {
	b, ok := s.conn.(interface {
		BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
	})
	if !ok {
		return s.underSavepoint(ctx, statements)
	}
	tx, err := b.BeginTx(ctx, nil)
	if err != nil {
		return records.Hide(err, nil)
	}
	defer tx.Rollback() // does nothing after Commit
	if err := statements(sessionOn(tx)); err != nil {
		return err
	}
	return records.Hide(tx.Commit(), nil)
}

func (s session) underSavepoint(ctx context.Context, statements func(records.DB) error) error {
	name := fmt.Sprint(" kmsencrypted", s.depth) // in MySQL another of the same name replaces it
	s.depth++
	if _, err := s.Exec(ctx, "SAVEPOINT"+name); err != nil {
		return records.Hide(err, nil)
	}
	if err := statements(s); err != nil {
		// Even if ctx has ended, because the caller may commit the rest.
		if _, undo := s.Exec(context.WithoutCancel(ctx), "ROLLBACK TO SAVEPOINT"+name); undo != nil {
			return errors.Join(err, fmt.Errorf("kmsbun: roll the transaction back: %w", records.Hide(undo, nil)))
		}
		return err
	}
	_, err := s.Exec(ctx, "RELEASE SAVEPOINT"+name)
	return records.Hide(err, nil)
}
