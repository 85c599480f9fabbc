package sqldialect

import (
	"context"
	"database/sql"
	"strings"
)

// LockedColumns locks a row until the end of the transaction, and with it the shape
// of the table, and then reads which columns the table has: those that were read
// before may be out of date. A row that is gone is [sql.ErrNoRows].
func (t Table) LockedColumns(ctx context.Context, tx Session, id []any) ([]string, error) {
	if err := t.lock(ctx, tx, id); err != nil {
		return nil, err
	}
	query, args := t.columns()
	return readTexts(ctx, tx, query, args...)
}

func (t Table) lock(ctx context.Context, tx Session, id []any) error {
	s := t.Dialect.Statement("SELECT 1 FROM ")
	if t.Dialect == SQLite { // whose lock is a change, if one that changes nothing
		s = t.Dialect.Statement("UPDATE ")
	}
	s.Table(t.Name)
	if t.Dialect == SQLite {
		s.Add(" SET ")
		s.Name(t.IDs[0])
		s.Add(" = ")
		s.Name(t.IDs[0])
	}
	s.Where(t.IDs)
	if t.Dialect == SQLite {
		result, err := tx.Exec(ctx, s.String(), id...)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return notThere(err)
		}
		return nil
	}
	s.Add(" FOR UPDATE")
	found, err := readTexts(ctx, tx, s.String(), id...)
	if err == nil && len(found) == 0 {
		err = sql.ErrNoRows
	}
	return err
}

func notThere(err error) error {
	if err == nil {
		err = sql.ErrNoRows
	}
	return err
}

// columns returns the query for the names of the table's columns.
func (t Table) columns() (query string, args []any) {
	schema, name, qualified := strings.Cut(t.Name, ".")
	if !qualified {
		schema, name = "", t.Name
	}
	switch t.Dialect {
	case Postgres:
		table := t.Dialect.Statement()
		table.Table(t.Name)
		return "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped", []any{table.String()}
	case MySQL:
		return "SELECT column_name FROM information_schema.columns WHERE table_name = ? AND table_schema = COALESCE(NULLIF(?, ''), DATABASE())", []any{name, schema}
	}
	if qualified {
		return "SELECT name FROM pragma_table_info(?, ?)", []any{name, schema}
	}
	return "SELECT name FROM pragma_table_info(?)", []any{name}
}

func readTexts(ctx context.Context, tx Session, query string, args ...any) (texts []string, err error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, rows.Err()
}
