package sqldialect

import (
	"context"
	"database/sql"
)

// Session is a database or a transaction of any library.
type Session interface {
	Exec(ctx context.Context, query string, args ...any) (sql.Result, error)
	Query(ctx context.Context, query string, args ...any) (Rows, error)
}

// Rows is the result of a query, such as [*sql.Rows].
type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

// Standard is a database or a transaction of database/sql, sqlx or GORM.
type Standard interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Of returns a Session of database/sql.
func Of(db Standard) Session { return standard{db} }

type standard struct{ Standard }

func (s standard) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return s.ExecContext(ctx, query, args...)
}

func (s standard) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	rows, err := s.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err // not a nil *sql.Rows in an interface
	}
	return rows, nil
}
