package kmspgx

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

// Query is like the method Query of db, and also takes a [field.Lookup] as an
// argument, or in [pgx.NamedArgs]. The lookup becomes an array:
//
//	rows, err := kmspgx.Query(ctx, db, "SELECT * FROM customers WHERE email_bidx = ANY($1)",
//		customers.Lookup("Email", "ada@example.org"))
//
// [CollectRows] and [CollectOneRow] then drop the rows whose opened value differs
// from the one looked up. With several lookups a record must match at least one. If
// the program meant AND, it must check with [field.Lookup.Matches].
//
// As in pgx, the error may be ignored, because the rows return it too.
func Query(ctx context.Context, db DB, sql string, args ...any) (pgx.Rows, error) {
	if err := usableDB(db); err != nil {
		return refused{err}, err
	}
	q := found{args: slices.Clone(args)}
	for i, arg := range args {
		replaced, err := q.take(arg)
		if err != nil {
			return refused{err}, err
		}
		q.args[i] = replaced
	}
	rows, err := db.Query(ctx, sql, q.args...)
	err = failed("query", "", records.Hide(err, q.args))
	if rows == nil {
		return refused{err}, err
	}
	q.Rows = rows
	return q, err
}

// found is the result of a query with lookups.
type found struct {
	pgx.Rows
	args    []any
	lookups []field.Lookup
}

// Err hides what the text of an error may quote.
func (f found) Err() error { return records.Hide(f.Rows.Err(), f.args) }

// take replaces lookups in an argument and keeps them.
func (f *found) take(arg any) (any, error) {
	switch arg := arg.(type) {
	case field.Lookup:
		f.lookups = append(f.lookups, arg)
		return array(arg)
	case pgx.NamedArgs:
		return takeNamed(f, arg)
	case pgx.StrictNamedArgs:
		return takeNamed(f, arg)
	}
	return arg, nil
}

func takeNamed[M ~map[string]any](f *found, named M) (_ M, err error) {
	named = maps.Clone(named)
	for name, arg := range named {
		if named[name], err = f.take(arg); err != nil {
			return nil, err
		}
	}
	return named, nil
}

// array returns the values of a lookup as an array of the index column's type.
func array(l field.Lookup) (any, error) {
	if l.Err() != nil {
		return nil, l.Err()
	}
	if l.Null {
		return nil, fmt.Errorf("%w: ANY does not find NULL: write %s IS NULL", kmsencrypted.ErrConfig, l.Name)
	}
	var texts []string
	var blobs [][]byte
	for _, c := range l.Columns {
		value, err := c.Value()
		if err != nil {
			return nil, err
		}
		switch value := value.(type) {
		case string:
			texts = append(texts, value)
		case []byte:
			blobs = append(blobs, value)
		}
	}
	if blobs != nil {
		return blobs, nil
	}
	return texts, nil
}

// CollectRows reads all rows into records as [pgx.RowToStructByNameLax] does, closes
// them, and then opens the records together: their data keys are unwrapped
// concurrently, while no connection of a pool is held. Fields whose columns are not
// in the query are as in a new struct.
//
// If the query fails the result is nil. If records do not open, the result holds all
// of them, and the error is [field.Failures].
func CollectRows[R any](ctx context.Context, rows pgx.Rows, m *field.Model[R]) ([]R, error) {
	if err := usable(rows, m); err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByNameLax[R])
	return opened(ctx, rows, m, list, err)
}

// CollectOneRow reads the first row into a record and opens it, with at most one
// call to the key service for each of its keys. It returns [pgx.ErrNoRows] if there
// is no row. If the record does not open, it is returned with the fields that did;
// the error says which did not.
//
// After [Query] with a lookup it reads all rows, because the first may be a false hit.
func CollectOneRow[R any](ctx context.Context, rows pgx.Rows, m *field.Model[R]) (R, error) {
	if err := usable(rows, m); err != nil {
		return *new(R), err
	}
	collect := collectFirst[R]
	if f, ok := rows.(found); ok && f.lookups != nil {
		collect = pgx.CollectRows[R]
	}
	list, err := collect(rows, pgx.RowToStructByNameLax[R])
	list, err = opened(ctx, rows, m, list, err)
	switch {
	case len(list) > 0:
		return list[0], err
	case err == nil:
		err = pgx.ErrNoRows // unchanged, because programs compare it with ==
	}
	return *new(R), err
}

// collectFirst is [pgx.CollectOneRow] with a list for the result, empty without rows.
func collectFirst[R any](rows pgx.Rows, read pgx.RowToFunc[R]) ([]R, error) {
	row, err := pgx.CollectOneRow(rows, read)
	if err == pgx.ErrNoRows {
		return nil, nil
	}
	return []R{row}, err
}

// opened opens records and drops false hits. err is the error of the query.
func opened[R any](ctx context.Context, rows pgx.Rows, m *field.Model[R], list []R, err error) ([]R, error) {
	f, _ := rows.(found)
	if err != nil {
		return nil, failed("select", m.Table(), records.Hide(err, f.args))
	}
	switch len(list) {
	case 1:
		err = m.Open(ctx, &list[0])
	default:
		err = m.Open(ctx, field.Pointers(list)...)
	}
	if err == nil && f.lookups != nil {
		list, err = records.Hits(fieldsOf(reflect.TypeFor[R](), nil), f.lookups, list)
	}
	return list, failed("select", m.Table(), err)
}

func usable[R any](rows pgx.Rows, m *field.Model[R]) error {
	if err := m.Adapter().Check(); err != nil {
		if !missing.Is(rows) {
			rows.Close()
		}
		return failed("select", m.Table(), err)
	}
	if missing.Is(rows) {
		return failed("select", m.Table(), fmt.Errorf("%w: the rows are nil", kmsencrypted.ErrConfig))
	}
	return nil
}
