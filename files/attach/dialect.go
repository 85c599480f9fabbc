package attach

import (
	"context"
	"database/sql"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Tx is what a [*sql.Tx] does for this package, and with it a transaction of
// whatever SQL library.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// dialect is what the databases write differently.
type dialect struct {
	sqldialect.Dialect
	own  field.Dialect // the same
	lock string        // ends a SELECT whose rows nobody else may change meanwhile
}

var dialects = map[field.Dialect]dialect{
	field.Postgres: {sqldialect.Postgres, field.Postgres, " FOR UPDATE"},
	field.MySQL:    {sqldialect.MariaDB, field.MySQL, " FOR UPDATE"},
	// One transaction writes at a time; whoever means to has written before it reads.
	field.SQLite: {sqldialect.SQLite, field.SQLite, ""},
}

func dialectOf(d field.Dialect) (dialect, error) {
	known, ok := dialects[d]
	if !ok {
		return known, configError("unknown dialect %q", d)
	}
	return known, nil
}

// sql finishes a statement: ? are its arguments, {now} and {lock} what the
// database calls so.
func (d dialect) sql(query string) string {
	return d.Placeholders(strings.NewReplacer("{now}", d.Now(), "{lock}", d.lock).Replace(query))
}

// exec reports whether a statement changed any row.
func (d dialect) exec(ctx context.Context, db Tx, query string, args ...any) (changed bool, err error) {
	result, err := db.ExecContext(ctx, d.sql(query), args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
