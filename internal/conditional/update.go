// Package conditional makes the UPDATE of a record that is written only if its row
// still holds what was read.
package conditional

import (
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Update returns the UPDATE of the row with a primary key, and its arguments. It
// sets what w.Set says if every column in w.Where holds one of its values.
// [sqldialect.Table.Matched] reads its result.
func Update(t sqldialect.Table, w field.Write, id []any) (query string, args []any) {
	set := make([]string, len(w.Set))
	for i, a := range w.Set {
		set[i], args = a.Column, append(args, a.Value)
	}
	args = append(args, id...)
	same, values := conditions(w.Where)
	return t.Update(set, same), append(args, values...)
}

// Holds returns a SELECT that finds a row as it is now if every column in where holds
// one of its values, and its arguments.
func Holds(t sqldialect.Table, where []field.Assignment, id []any) (query string, args []any) {
	same, values := conditions(where)
	return t.SelectIf(same), append(append(args, id...), values...)
}

// Where returns the condition that every column in where holds one of its values, for a
// statement of somebody else, and its arguments. mark returns the placeholder for the
// nth of them, from 0.
func Where(d sqldialect.Dialect, where []field.Assignment, mark func(n int) string) (condition string, args []any) {
	same, args := conditions(where)
	return d.Holds(same, mark), args
}

func conditions(where []field.Assignment) (same []sqldialect.Condition, args []any) {
	for _, a := range where {
		values := a.Values()
		same = append(same, sqldialect.Condition{Column: a.Column, Values: len(values), Exact: a.Exact})
		for _, v := range values {
			args = append(args, v)
		}
	}
	return same, args
}
