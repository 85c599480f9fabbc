package attach

import (
	"context"
	"database/sql"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Tx is the part of [*sql.Tx] that this package uses. A transaction of another SQL
// library can implement it.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// dialect holds what differs between databases.
type dialect struct {
	sqldialect.Dialect
	own  field.Dialect // the same database as package field names it
	lock string        // ends a SELECT that locks its rows
}

var dialects = map[field.Dialect]dialect{
	field.Postgres: {sqldialect.Postgres, field.Postgres, " FOR UPDATE"},
	field.MySQL:    {sqldialect.MariaDB, field.MySQL, " FOR UPDATE"},
	// SQLite has one writer at a time, and a transaction that will write has already
	// written before it reads.
	field.SQLite: {sqldialect.SQLite, field.SQLite, ""},
}

func dialectOf(d field.Dialect) (dialect, error) {
	known, ok := dialects[d]
	if !ok {
		return known, configError("unknown dialect %q", d)
	}
	return known, nil
}

// sql completes a statement. ? stands for an argument, {now} and {lock} for the
// database's own expressions.
func (d dialect) sql(query string) string {
	return d.Placeholders(strings.NewReplacer("{now}", d.Now(), "{lock}", d.lock).Replace(query))
}

// exec runs a statement and reports whether it changed any row.
func (d dialect) exec(ctx context.Context, db Tx, query string, args ...any) (changed bool, err error) {
	result, err := db.ExecContext(ctx, d.sql(query), args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
