package kmsbun

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
)

// result is what a statement returned. The statements that belong to it must be sent
// before bun reads it, so it is kept and read again.
type result struct {
	columns []string
	rows    [][]driver.Value
	silent  bool // the statement returns no columns at all
}

// readAll reads and closes rows.
func readAll(rows *sql.Rows, keep func(column string) bool) (r result, err error) {
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return r, err
	}
	r.silent = len(names) == 0
	for _, name := range names {
		if keep(name) {
			r.columns = append(r.columns, name)
		}
	}
	for rows.Next() {
		values, into := make([]any, len(names)), make([]any, len(names))
		for i := range into {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return r, err
		}
		var row []driver.Value
		for i, name := range names {
			if keep(name) {
				row = append(row, values[i])
			}
		}
		r.rows = append(r.rows, row)
	}
	return r, errors.Join(rows.Err(), rows.Close())
}

// open returns the result as rows of a database that has only it.
func (r result) open() (*sql.Rows, error) {
	db := sql.OpenDB(&kept{result: r})
	defer db.Close() // the rows stay readable
	return db.QueryContext(context.Background(), "")
}

// kept is a driver, a connection and rows, all of one result.
type kept struct {
	result
	next int
}

func (k *kept) Connect(context.Context) (driver.Conn, error) { return k, nil }
func (k *kept) Driver() driver.Driver                        { return nil }
func (k *kept) Prepare(string) (driver.Stmt, error)          { return nil, driver.ErrSkip }
func (k *kept) Begin() (driver.Tx, error)                    { return nil, driver.ErrSkip }
func (k *kept) Close() error                                 { return nil }
func (k *kept) Columns() []string                            { return k.columns }

func (k *kept) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return k, nil
}

func (k *kept) Next(dest []driver.Value) error {
	if k.next == len(k.rows) {
		return io.EOF
	}
	copy(dest, k.rows[k.next])
	k.next++
	return nil
}
