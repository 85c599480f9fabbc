package kment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/kmsencrypted/kmsencrypted/internal/records"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// conn is a database or a transaction, for the statements of ent and for those of
// package records, which it implements a DB for.
type conn struct {
	ex     dialect.ExecQuerier
	driver *Driver
	begin  func(context.Context) (dialect.Tx, error) // nil in a transaction
	depth  int                                       // of savepoints
}

// statement is one that ent sends. send is Exec or Query, and result what it fills.
type statement struct {
	query  string
	args   []any
	result any
	send   func(dialect.ExecQuerier, context.Context, string, any, any) error
}

// run sends a statement of ent. One that writes entities is sent by their work; any
// other must neither write nor search what is encrypted.
func (c conn) run(ctx context.Context, query string, args, v any, send func(dialect.ExecQuerier, context.Context, string, any, any) error) error {
	s := statement{query: query, result: v, send: send}
	s.args, _ = args.([]any)
	all := worksIn(s.args)
	found, err := c.driver.look(s, all)
	switch {
	case err != nil:
		return err
	case len(all) > 0:
		return all[0].run(ctx, c, s, all)
	case found == nil:
		return send(c.ex, ctx, query, args, v)
	}
	if err := send(c.ex, ctx, c.driver.kind.Strict(query), args, v); err != nil {
		return records.Hide(err, s.args)
	}
	if rows, ok := v.(*entsql.Rows); ok {
		rows.ColumnScanner = c.driver.guarded(rows.ColumnScanner, found)
	}
	return nil
}

// Exec sends a statement as it is.
func (c conn) Exec(ctx context.Context, query string, args ...any) (result sql.Result, err error) {
	err = c.ex.Exec(ctx, query, list(args), &result)
	return result, err
}

// Query sends a query as it is.
func (c conn) Query(ctx context.Context, query string, args ...any) (sqldialect.Rows, error) {
	var rows entsql.Rows
	if err := c.ex.Query(ctx, query, list(args), &rows); err != nil {
		return nil, err
	}
	return rows, nil
}

// list is never nil: drivers of ent want a list.
func list(args []any) []any { return append([]any{}, args...) }

func (c conn) Commits() bool { return c.begin != nil }

func (c conn) Atomically(ctx context.Context, statements func(records.DB) error) error {
	if c.begin == nil {
		return c.underSavepoint(ctx, statements)
	}
	inner, err := c.begin(ctx)
	if err != nil {
		return records.Hide(err, nil)
	}
	if err := statements(conn{ex: inner, driver: c.driver}); err != nil {
		return errors.Join(err, records.Hide(inner.Rollback(), nil))
	}
	return records.Hide(inner.Commit(), nil)
}

func (c conn) underSavepoint(ctx context.Context, statements func(records.DB) error) error {
	name := fmt.Sprint(" kmsencrypted", c.depth) // in MySQL another of the same name replaces it
	c.depth++
	if _, err := c.Exec(ctx, "SAVEPOINT"+name); err != nil {
		return records.Hide(err, nil)
	}
	if err := statements(c); err != nil {
		// Even if ctx has ended, because the caller may commit the rest.
		if _, undo := c.Exec(context.WithoutCancel(ctx), "ROLLBACK TO SAVEPOINT"+name); undo != nil {
			return errors.Join(err, fmt.Errorf("kment: roll the transaction back: %w", records.Hide(undo, nil)))
		}
		return err
	}
	_, err := c.Exec(ctx, "RELEASE SAVEPOINT"+name)
	return records.Hide(err, nil)
}

func (c conn) execContext(ctx context.Context, query string, args []any) (sql.Result, error) {
	found, err := c.driver.look(statement{query: query, args: args}, nil)
	if err != nil {
		return nil, err
	}
	ex, ok := c.ex.(entsql.ExecQuerier)
	if !ok {
		return nil, fmt.Errorf("kment: %w: %T has no ExecContext", errors.ErrUnsupported, c.ex)
	}
	if found == nil {
		return ex.ExecContext(ctx, query, args...)
	}
	result, err := ex.ExecContext(ctx, c.driver.kind.Strict(query), args...)
	return result, records.Hide(err, args)
}

func (c conn) queryContext(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	if _, err := c.driver.look(statement{query: query, args: args}, nil); err != nil {
		return nil, err
	}
	ex, ok := c.ex.(entsql.ExecQuerier)
	if !ok {
		return nil, fmt.Errorf("kment: %w: %T has no QueryContext", errors.ErrUnsupported, c.ex)
	}
	rows, err := ex.QueryContext(ctx, query, args...)
	return rows, records.Hide(err, args)
}
