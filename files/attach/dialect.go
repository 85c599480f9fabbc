package attach

import (
	"context"
	"database/sql"
)

// Tx is the part of [*sql.Tx] that this package uses. A transaction of another SQL
// library can implement it.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// exec runs a statement and reports whether it changed any row.
func (i intents) exec(ctx context.Context, db Tx, query string, args ...any) (changed bool, err error) {
	result, err := db.ExecContext(ctx, i.dialect.SQL(query), args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
