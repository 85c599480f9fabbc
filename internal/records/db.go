// Package records inserts, updates and deletes the records of a model. The adapters
// for database libraries share its statements, their conditions and their errors. An
// adapter provides a [DB], which runs a statement with its library, and the columns of
// a struct ([Field]).
package records

import (
	"context"
	"database/sql"
	"errors"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// DB is a database or a transaction of a library.
type DB interface {
	sqldialect.Session
	// Atomically runs all statements or none: in a transaction, or under a savepoint
	// if the DB is one.
	Atomically(ctx context.Context, statements func(DB) error) error
	// Commits reports whether a statement that succeeded is committed.
	Commits() bool
}

// Library is what differs in the words of libraries.
type Library struct {
	Name   string
	NoRows error // what it returns for a row that does not exist
}

// noRows replaces the error for a row that does not exist by that of the library.
func (l Library) noRows(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return l.NoRows
	}
	return err
}

// readColumn reads the only column of a result.
func readColumn[T any](ctx context.Context, db DB, query string, args ...any) (list []T, err error) {
	err = each(ctx, db, query, args, func(rows sqldialect.Rows) error {
		var v T
		err := rows.Scan(&v)
		list = append(list, v)
		return err
	})
	return list, err
}

// each calls scan for each row of a result.
func each(ctx context.Context, db DB, query string, args []any, scan func(sqldialect.Rows) error) error {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return Hide(err, args)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return Hide(err, args)
		}
	}
	if err := rows.Err(); err != nil {
		return Hide(err, args)
	}
	return Hide(rows.Close(), args)
}
