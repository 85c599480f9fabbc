// Package spelling finds rows that would never open because the database has
// something else in them than the program gave it.
//
// A record is bound to the text of its primary key, and to the columns that its
// encryption context is made of. A database may keep another text: a uuid column one
// in lower case, a char(n) one with spaces behind it, a column of numbers one without
// zeros before it, a server that is not strict a part of it, a trigger any other. And it
// may find a row by an id that differs from its own, where a collation takes A for a. So
// whoever binds a row to values of the program's compares those that the database has.
// Integers have one spelling only.
package spelling

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// Varies reports whether a database may spell what the records of a model are bound to
// otherwise.
func Varies[R any](m field.Adapter[R]) bool {
	return slices.ContainsFunc(m.BoundValues(NewRow(m)), func(value any) bool { return !isNumber(reflect.TypeOf(value)) })
}

// isNumber reports whether the values of a type have one spelling.
func isNumber(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() >= reflect.Bool && t.Kind() <= reflect.Uintptr
}

// Binds reports whether an update binds a row to values of the program's: it gives the
// row its first key, for which nobody may have read it, replaces a key that this process
// may not open, which would show what it is bound to, or sets a column to a value that
// the row is not known to have. A condition proves little: a column of UUIDs equals one
// in any spelling. plain are the columns that the program sets itself.
func Binds[R any](m field.Adapter[R], w field.Write, plain ...string) bool {
	return isFirstKey(m, w) || w.Key == field.KeyReplaced || slices.ContainsFunc(m.BoundColumns(), func(column string) bool {
		is := func(a field.Assignment) bool { return a.Column == column }
		set, where := slices.IndexFunc(w.Set, is), slices.IndexFunc(w.Where, is)
		switch {
		case set < 0:
			return slices.Contains(plain, column)
		case where < 0 || len(w.Where[where].Or) > 0:
			return true
		}
		return !reflect.DeepEqual(w.Set[set].Value, w.Where[where].Value)
	})
}

func isFirstKey[R any](m field.Adapter[R], w field.Write) bool {
	return slices.ContainsFunc(w.Where, func(a field.Assignment) bool {
		return slices.Contains(a.Values(), driver.Value(nil)) && slices.Contains(m.KeyColumns(), a.Column)
	})
}

// Check looks for a record that was sealed for what no row has, and returns it with
// [kmsencrypted.ErrLossy]. told are the rows, in any order, with the columns of
// [field.Adapter.BoundColumns] as the database has them; nil is one that the type of the
// record cannot hold.
func Check[R any](m field.Adapter[R], rows, told []*R) (lost *R, err error) {
	id := func(row *R) string { return fmt.Sprintf("%q", m.ID(row)) }
	byID := make(map[string][]*R, len(told))
	for _, other := range told {
		if other != nil {
			byID[id(other)] = append(byID[id(other)], other)
		}
	}
	var missing []*R
	used := make(map[*R]bool, len(rows))
	for _, row := range rows {
		found := byID[id(row)]
		switch {
		case len(found) == 0:
			missing = append(missing, row)
		case !m.OpensAs(row, found[0]):
			return row, Error(m.Table())
		default:
			used[found[0]], byID[id(row)] = true, found[1:]
		}
	}
	others := slices.DeleteFunc(slices.Clone(told), func(other *R) bool { return used[other] })
	for i, row := range missing {
		if i >= len(others) || others[i] == nil || !m.OpensAs(row, others[i]) {
			return row, Error(m.Table())
		}
	}
	return nil, nil
}

// Error says what is wrong with a row of a table.
func Error(table string) error {
	return fmt.Errorf("%w: the database has the primary key, or a column of the encryption context, in another spelling, for which the row would not open: set it as %s has it", kmsencrypted.ErrLossy, table)
}

// NewRow returns an empty record, also of a dynamic model.
func NewRow[R any](m field.Adapter[R]) *R {
	row := new(R)
	if to := reflect.ValueOf(row).Elem(); to.Kind() == reflect.Interface {
		to.Set(reflect.New(m.RowType()))
	}
	return row
}
