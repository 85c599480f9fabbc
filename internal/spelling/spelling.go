// Package spelling finds rows that would never open because the database has their
// primary key in another spelling than the program gave it.
//
// A record is bound to the text of its primary key. A database may keep another
// text: a uuid column one in lower case, a char(n) one with spaces behind it, a
// column of numbers one without zeros before it, a server that is not strict a part
// of it. And it may find a row by an id that differs from its own, where a collation
// takes A for a. So whoever binds a row to an id of the program's compares the id
// that the database has. Integers have one spelling only.
package spelling

import (
	"context"
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// Varies reports whether a database may spell primary keys of a model otherwise.
func Varies[R any](m field.Adapter[R]) bool {
	return slices.ContainsFunc(m.IDValues(NewRow(m)), func(id any) bool {
		v := reflect.ValueOf(id)
		return !v.CanInt() && !v.CanUint()
	})
}

// IsFirstKey reports whether a record binds a row to its id that had no key: the
// record may never have been read.
func IsFirstKey[R any](m field.Adapter[R], w field.Write) bool {
	return slices.ContainsFunc(w.Where, func(a field.Assignment) bool {
		return slices.Contains(a.Values(), driver.Value(nil)) && slices.Contains(m.KeyColumns(), a.Column)
	})
}

// Check returns [kmsencrypted.ErrLossy] if a record was sealed for an id that no row
// has. told are the primary keys of the rows, in any order, as the database has them.
func Check[R any](ctx context.Context, m field.Adapter[R], rows, told []*R) error {
	missing, told := unmatched(m, rows, told)
	for i, row := range missing {
		if i >= len(told) || told[i] == nil || !opensAs(ctx, m, row, told[i]) {
			return Error(m.Table())
		}
	}
	return nil
}

// unmatched returns the records whose ids nobody told, and what was told of others.
func unmatched[R any](m field.Adapter[R], rows, told []*R) (missing, others []*R) {
	id := func(row *R) string { return fmt.Sprintf("%q", m.ID(row)) }
	times := make(map[string]int, len(rows))
	for _, row := range rows {
		times[id(row)]++
	}
	for _, other := range told {
		if other == nil || times[id(other)] == 0 {
			others = append(others, other)
			continue
		}
		times[id(other)]--
	}
	for _, row := range rows {
		if times[id(row)] > 0 {
			times[id(row)]--
			missing = append(missing, row)
		}
	}
	return missing, others
}

// Error says what is wrong with a primary key of a table.
func Error(table string) error {
	return fmt.Errorf("%w: the database has the primary key in another spelling, for which the row would not open: set it as %s has it", kmsencrypted.ErrLossy, table)
}

// opensAs reports whether the data keys of a record open under the id of another
// too, because nothing depends on the id.
func opensAs[R any](ctx context.Context, m field.Adapter[R], row, other *R) bool {
	renamed := m.Copy(row)
	if err := m.SetID(renamed, m.ID(other)); err != nil {
		return false
	}
	for _, column := range m.KeyColumns() {
		wrapped, err := m.Key(column, row).Value()
		if err != nil {
			return false
		}
		if wrapped == nil {
			continue
		}
		key, err := m.Box().Unwrap(ctx, fmt.Sprintf("%s", wrapped), m.Binding(column, renamed))
		if err != nil {
			return false
		}
		key.Wipe()
	}
	return true
}

// NewRow returns an empty record, also of a dynamic model.
func NewRow[R any](m field.Adapter[R]) *R {
	row := new(R)
	if to := reflect.ValueOf(row).Elem(); to.Kind() == reflect.Interface {
		to.Set(reflect.New(m.RowType()))
	}
	return row
}
