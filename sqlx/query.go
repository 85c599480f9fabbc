package kmssqlx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

// Get reads one record and opens it, with at most one call to the key service. It
// takes a query and arguments like [sqlx.Get]. ? works with every database; a list
// or a [field.Lookup] as an argument is expanded in IN (?). Get returns
// [sql.ErrNoRows] if there is no row.
//
// dest is replaced as a whole: fields whose columns are not in the query are as in
// a new struct. If the record does not open, dest still holds it, with the fields
// that did open; the error says which did not.
func Get[R any](ctx context.Context, db Ext, m *field.Model[R], dest *R, query string, args ...any) error {
	if err := records.Usable("get", db, m, dest); err != nil {
		return err
	}
	q, err := bind(db, query, args)
	if err != nil {
		return records.Failed("get", m.Table(), err)
	}
	if q.lookups != nil {
		return getHit(ctx, db, m, dest, q)
	}
	var row R
	from := &reading{Ext: db, check: m.Adapter().CheckRead}
	if err := from.outcome(sqlx.GetContext(ctx, from, &row, q.text, q.args...), q.args); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return sql.ErrNoRows // unchanged, because programs compare it with ==
		}
		return records.Failed("get", m.Table(), err)
	}
	*dest = row
	return m.Open(ctx, dest)
}

// Select reads records and opens them together. Their data keys are unwrapped
// concurrently, after the database connection was returned. Query and arguments
// are as for [Get]. The previous content of dest is replaced.
//
// Records found by an index are checked: those whose opened value differs from the
// one looked up are removed. With several lookups a record must match at least
// one. If the program meant AND, it must check with [field.Lookup.Matches].
//
// If the query fails, dest is nil. If records do not open, dest holds all of them,
// and the error is [field.Failures].
func Select[R any](ctx context.Context, db Ext, m *field.Model[R], dest *[]R, query string, args ...any) error {
	if err := usableList("select", db, m, dest); err != nil {
		return err
	}
	q, err := bind(db, query, args)
	if err != nil {
		*dest = nil
		return records.Failed("select", m.Table(), err)
	}
	return selectAll(ctx, db, m, dest, q)
}

// NamedGet is like [Get] for a query with names such as :id, whose values are in a
// map or in a struct, like [sqlx.NamedQuery]. It also works on a Conn. A list or a
// [field.Lookup] is expanded in IN (:name). Write a colon of SQL itself twice.
func NamedGet[R any](ctx context.Context, db Ext, m *field.Model[R], dest *R, query string, arg any) error {
	if err := records.Usable("get", db, m, dest); err != nil {
		return err
	}
	text, args, err := sqlx.Named(query, arg)
	if err != nil {
		return records.Failed("get", m.Table(), records.HideNamed(err))
	}
	return Get(ctx, db, m, dest, text, args...)
}

// NamedSelect is like [Select] with the names of [NamedGet].
func NamedSelect[R any](ctx context.Context, db Ext, m *field.Model[R], dest *[]R, query string, arg any) error {
	if err := usableList("select", db, m, dest); err != nil {
		return err
	}
	text, args, err := sqlx.Named(query, arg)
	if err != nil {
		*dest = nil
		return records.Failed("select", m.Table(), records.HideNamed(err))
	}
	return Select(ctx, db, m, dest, text, args...)
}

func selectAll[R any](ctx context.Context, db Ext, m *field.Model[R], dest *[]R, q query) error {
	const op = "select"
	from := &reading{Ext: db, check: m.Adapter().CheckRead}
	if err := from.outcome(readAll(ctx, from, dest, q), q.args); err != nil {
		*dest = nil
		return records.Failed(op, m.Table(), err)
	}
	err := m.Open(ctx, field.Pointers(*dest)...)
	if err == nil && q.lookups != nil {
		*dest, err = records.Hits(fieldsOf[R](db), q.lookups, *dest)
	}
	return records.Failed(op, m.Table(), err)
}

// readAll is [sqlx.SelectContext] for records, which are large: it scans each row into its
// place in the list instead of a struct of its own, and makes the list grow by doubling.
func readAll[R any](ctx context.Context, from *reading, dest *[]R, q query) error {
	if t := reflect.TypeFor[R](); t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[sql.Scanner]()) {
		return sqlx.SelectContext(ctx, from, dest, q.text, q.args...) // which knows what to say about such a type
	}
	rows, err := from.QueryxContext(ctx, q.text, q.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	list := (*dest)[:0]
	for rows.Next() {
		if len(list) == cap(list) {
			list = slices.Grow(list, max(len(list), 8))
		}
		var empty R
		list = append(list, empty)
		if err := rows.StructScan(&list[len(list)-1]); err != nil {
			return err
		}
	}
	*dest = list
	return rows.Err()
}

// getHit reads all rows that an index found, because the first may be a false hit.
func getHit[R any](ctx context.Context, db Ext, m *field.Model[R], dest *R, q query) error {
	var rows []R
	err := selectAll(ctx, db, m, &rows, q)
	switch {
	case len(rows) > 0:
		*dest = rows[0]
	case err == nil:
		err = sql.ErrNoRows
	}
	return err
}

// usableList is [records.Usable] for the destination of many records.
func usableList[R any](op string, db Ext, m *field.Model[R], dest *[]R) error {
	if dest == nil {
		return records.Failed(op, m.Table(), fmt.Errorf("%w: the destination is nil", kmsencrypted.ErrConfig))
	}
	return records.Usable(op, db, m)
}

// reading looks at the columns of a result before it is read.
type reading struct {
	Ext
	check func(columns []string) error
	err   error
}

func (r *reading) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	rows, err := r.Ext.QueryxContext(ctx, query, args...)
	if err == nil {
		r.look(rows)
	}
	return rows, err
}

func (r *reading) QueryRowxContext(ctx context.Context, query string, args ...any) *sqlx.Row {
	row := r.Ext.QueryRowxContext(ctx, query, args...)
	if row.Err() == nil {
		r.look(row)
	}
	return row
}

func (r *reading) look(result interface{ Columns() ([]string, error) }) {
	if columns, err := result.Columns(); err == nil { // reading a row meets the error too
		r.err = r.check(columns)
	}
}

// outcome returns the mistake in the columns of a query, or its error.
func (r *reading) outcome(err error, args []any) error {
	if r.err != nil {
		return r.err
	}
	return records.Hide(err, args)
}
