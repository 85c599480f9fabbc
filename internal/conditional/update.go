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
	same := make([]sqldialect.Condition, len(w.Where))
	for i, a := range w.Where {
		values := a.Values()
		same[i] = sqldialect.Condition{Column: a.Column, Values: len(values), Exact: a.Exact}
		for _, v := range values {
			args = append(args, v)
		}
	}
	return t.Update(set, same), args
}
