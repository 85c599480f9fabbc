package kmssqlx

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

// query is a query of the caller, ready for the database.
type query struct {
	text    string
	args    []any
	lookups []field.Lookup
}

// bind expands lists and lookups in IN (?) and replaces each ? by the placeholder
// of the database. A query with placeholders of its own, such as $1, is
// unchanged, and so may use ? as an operator.
func bind(db Ext, text string, args []any) (q query, err error) {
	if q.args, err = q.takeLookups(args); err != nil {
		return query{}, err
	}
	q.text = text
	if !strings.Contains(text, "?") || strings.Contains(text, "$1") {
		return q, nil
	}
	if slices.ContainsFunc(q.args, isList) {
		if q.text, q.args, err = sqlx.In(text, q.args...); err != nil {
			return query{}, records.Hide(err, args)
		}
	}
	q.text = db.Rebind(q.text)
	return q, nil
}

// takeLookups replaces each lookup by the list of its values.
func (q *query) takeLookups(args []any) ([]any, error) {
	isLookup := func(arg any) bool { _, ok := arg.(field.Lookup); return ok }
	if !slices.ContainsFunc(args, isLookup) {
		return args, nil
	}
	args = slices.Clone(args)
	for i, arg := range args {
		l, ok := arg.(field.Lookup)
		if !ok {
			continue
		}
		if l.Err() != nil {
			return nil, l.Err()
		}
		if l.Null {
			return nil, fmt.Errorf("%w: IN does not find NULL: write %s IS NULL", kmsencrypted.ErrConfig, l.Name)
		}
		args[i] = l.Args()
		q.lookups = append(q.lookups, l)
	}
	return args, nil
}

// isList reports whether an argument is expanded. Bytes are one value, and so is
// a driver.Valuer.
func isList(arg any) bool {
	if _, ok := arg.(driver.Valuer); ok || arg == nil {
		return false
	}
	t := reflect.TypeOf(arg)
	return t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8
}
