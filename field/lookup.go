package field

import (
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
)

// Lookup is what to search for in an index column, with a check of the rows found.
type Lookup struct {
	blindindex.Lookup
	err     error
	matches func(row any) (bool, error)
}

// Err is why there is nothing to search for, nil if there is something.
func (l Lookup) Err() error {
	if l.err == nil && l.matches == nil {
		return errZeroLookup
	}
	return l.err
}

var errZeroLookup = fmt.Errorf("field: %w: the Lookup was not made by Model.Lookup", kmsencrypted.ErrConfig)

// Indexes returns the values to search for as columns of a record, for queries
// with typed arguments, such as those that sqlc generates.
func (l Lookup) Indexes() []Index {
	indexes := make([]Index, len(l.Columns))
	for i, c := range l.Columns {
		column, err := storedIndex(c)
		if err == nil { // a Column is text or bytes
			indexes[i].h = head{state: closed, stored: column}
		}
	}
	return indexes
}

// Matches reports whether an opened record has one of the values looked up. It
// opens nothing. An index finds other rows too, if it is truncated, if its
// expression makes values equal, or if somebody changed the column.
func (l Lookup) Matches(row any) (bool, error) {
	if err := l.Err(); err != nil {
		return false, err
	}
	return l.matches(row)
}

// Lookup returns what to search for to find records by the value of a field. name
// is the field's name if it has one index, otherwise the index column. A field tagged
// `kms:"activerecord,deterministic"` is looked up in its own column. Nil
// searches for NULL. The index's expression is applied to the values. An error is
// kept in the result, so that the call can be used inside a query; adapters return
// it.
func (m *Model[R]) Lookup(name string, values ...any) Lookup {
	return m.inner().lookup(name, values)
}

func (c *core) lookup(name string, values []any) Lookup {
	if err := c.usable(nil); err != nil {
		return Lookup{err: err}
	}
	x, err := c.schema.findIndex(name)
	if err != nil {
		if f, ok := c.schema.findActiveRecord(name); ok {
			return c.lookupColumn(f, values)
		}
		return Lookup{err: err}
	}
	if len(x.sources) == 1 {
		values = slices.Clone(values)
		for i := range values {
			if values[i], err = x.sources[0].plain(values[i]); err != nil {
				return Lookup{err: err}
			}
		}
	}
	lookup, err := x.computed.Lookup(values...)
	if err != nil {
		return Lookup{err: err}
	}
	sought := make(map[string]bool, len(values))
	for _, value := range values {
		p, err := x.computed.Plaintext(value)
		if err != nil {
			return Lookup{err: err}
		}
		if !p.IsNull() {
			sought[p.Text()] = true
		}
	}
	return Lookup{Lookup: lookup, matches: func(row any) (bool, error) {
		r, err := c.recordOf(row)
		if err != nil {
			return false, err
		}
		value, _, err := r.indexValue(x, true)
		if err != nil {
			return false, err
		}
		p, err := x.computed.Plaintext(value)
		if err != nil || p.IsNull() {
			return lookup.Null, err
		}
		return sought[p.Text()], nil
	}}
}

func (s *schema) findIndex(name string) (*indexSpec, error) {
	var found []*indexSpec
	for _, x := range s.indexes {
		if x.column == name || x.goName == name {
			return x, nil
		}
		if x.of == name || scopeOf(x.goName)+x.of == name {
			found = append(found, x)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("field: %w: no index named %s", kmsencrypted.ErrConfig, name)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("field: %w: %s has several indexes: name the column", kmsencrypted.ErrConfig, name)
}
