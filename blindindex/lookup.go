package blindindex

import (
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
)

// Lookup is what to search for in an index column: rows whose column is one of
// Columns, and rows whose column is NULL if Null is set. If both are empty, no row
// matches.
//
// Open the rows found and compare: a truncated index and most expressions find
// other rows too, and somebody who can write to the database can change an index
// column.
type Lookup struct {
	Name    string   // of the index column
	Columns []Column // each once, never NULL, because in SQL NULL equals nothing
	Null    bool     // search for IS NULL too
}

// Args returns Columns as arguments of a query: one for each placeholder of IN
// (…).
func (l Lookup) Args() []any {
	args := make([]any, len(l.Columns))
	for i, c := range l.Columns {
		args[i] = c
	}
	return args
}

// add adds columns to the lookup, each once.
func (l *Lookup) add(columns []Column, seen map[Column]bool) {
	for _, c := range columns {
		switch {
		case c.IsNull():
			l.Null = true
		case !seen[c]:
			seen[c] = true
			l.Columns = append(l.Columns, c)
		}
	}
}

// Lookup returns what to search for to find any of the values: one value, the
// values of an IN, or nil for NULL. It accepts the same values as [Index.Compute]
// and returns the same errors. It computes the values one after the other; for
// lists of hundreds under a slow algorithm see [Bulk].
func (x *Index) Lookup(values ...any) (Lookup, error) {
	if err := x.usable(); err != nil {
		return Lookup{}, err
	}
	l := Lookup{Name: x.name}
	seen := make(map[Column]bool, len(values))
	for _, value := range values {
		p, err := x.express(value)
		if err != nil {
			return Lookup{}, err
		}
		columns, err := x.computeAll(p)
		if err != nil {
			return Lookup{}, err
		}
		l.add(columns, seen)
	}
	return l, nil
}

// Assignment is a column to write: its name and its value.
type Assignment struct {
	Name   string
	Column Column
}

// Rotation pairs an index with its successor while rows move from one to the
// other: another key, algorithm, expression or width. It is immutable and safe for
// concurrent use.
//
// With two columns, as in blind_index ("email_bidx" and "email_bidx_v2"): add the
// second column and let every program write both. Only when no program writes the
// first alone any more, compute the second for all rows, not just for those where
// it is NULL, because the others may be stale. Then create its unique index if the
// first has one, look up under the new index alone, and drop the first.
//
// With one column for both: a row holds one or the other, every write stores the
// new one, and look-ups search for both. It needs no second column, but a unique
// index does not notice that an old and a new row hold the same value.
type Rotation struct {
	before, after *Index
}

// NewRotation returns the rotation from an index to its successor. They may use
// the same column or two. NewRotation returns [kmsencrypted.ErrConfig] if one is
// nil or zero, or both are the same index.
func NewRotation(before, after *Index) (*Rotation, error) {
	if before.usable() != nil || after.usable() != nil || before == after {
		return nil, fmt.Errorf("blindindex: %w: a rotation needs an old and a new index", kmsencrypted.ErrConfig)
	}
	return &Rotation{before, after}, nil
}

// Compute returns the columns to write for a value: the old and the new one, or
// only the new one if both indexes use the same column.
func (r *Rotation) Compute(value any) ([]Assignment, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	indexes := []*Index{r.before, r.after}
	if r.oneColumn() {
		indexes = indexes[1:]
	}
	assignments := make([]Assignment, len(indexes))
	for i, x := range indexes {
		column, err := x.Compute(value)
		if err != nil {
			return nil, err
		}
		assignments[i] = Assignment{x.name, column}
	}
	return assignments, nil
}

// Lookup returns what to search for under both indexes: rows that match any of the
// lookups (OR). It searches for NULL only in the old column, because the new
// column of rows that are not filled yet is NULL too. If both indexes use one
// column, it returns one lookup.
func (r *Rotation) Lookup(values ...any) ([]Lookup, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	before, err := r.before.Lookup(values...)
	if err != nil {
		return nil, err
	}
	after, err := r.after.Lookup(values...)
	if err != nil {
		return nil, err
	}
	if !r.oneColumn() {
		after.Null = false
		return []Lookup{before, after}, nil
	}
	both := Lookup{Name: after.Name, Null: before.Null || after.Null}
	seen := map[Column]bool{}
	both.add(before.Columns, seen)
	both.add(after.Columns, seen)
	return []Lookup{both}, nil
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Rotation.
func (r *Rotation) usable() error {
	if r == nil || r.before == nil {
		return fmt.Errorf("blindindex: %w: the Rotation was not made by NewRotation", kmsencrypted.ErrConfig)
	}
	return nil
}

func (r *Rotation) oneColumn() bool { return r.before.name == r.after.name }
