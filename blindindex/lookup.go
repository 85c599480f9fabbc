package blindindex

import (
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
)

// Lookup is what to search for in an index column: rows whose column is one of
// Columns, and rows whose column is NULL if Null is set. With neither nothing is
// sought, and no row is the answer.
//
// Open the rows found and compare: a truncated index and most expressions find
// others too, and whoever can write to the database can change an index column.
type Lookup struct {
	Name    string   // of the index column
	Columns []Column // each once, never NULL, since in SQL NULL equals nothing
	Null    bool     // IS NULL is sought too
}

// Args is Columns as arguments of a query: one for each placeholder of IN (…).
func (l Lookup) Args() []any {
	args := make([]any, len(l.Columns))
	for i, c := range l.Columns {
		args[i] = c
	}
	return args
}

// add puts columns into the lookup, each once.
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
// values of an IN, or nil for NULL. Values are what [Index.Compute] takes, and
// so are the errors. They are computed one after the other; for lists of
// hundreds under a slow algorithm see [Bulk].
func (x *Index) Lookup(values ...any) (Lookup, error) {
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

// Assignment is a column to write: its name and what goes in.
type Assignment struct {
	Name   string
	Column Column
}

// Rotation is an index and its successor while rows move from one to the other:
// another key, algorithm, expression or width. It is immutable and safe for
// concurrent use.
//
// With two columns, the way of blind_index ("email_bidx" and "email_bidx_v2"):
// add the second column and let every program write both; only when no program
// is left that writes the first alone, compute the second for all rows, not just
// for those where it is NULL, since the others may be stale; then make its unique
// index if the first has one, look up under the new index alone, and drop the
// first.
//
// With one column for both: rows hold one or the other, every write stores the
// new one, and look-ups search for both. It needs no second column, but a unique
// index does not see that an old and a new row hold the same value.
type Rotation struct {
	before, after *Index
}

// NewRotation pairs an index with its successor; neither may be nil. They may
// use the same column or two. The same index twice is [kmsencrypted.ErrConfig].
func NewRotation(before, after *Index) (*Rotation, error) {
	if before == nil || after == nil || before == after {
		return nil, fmt.Errorf("blindindex: %w: a rotation needs an old and a new index", kmsencrypted.ErrConfig)
	}
	return &Rotation{before, after}, nil
}

// Compute returns the columns to write for a value: that of the old and that of
// the new index, or, if both use one column, that of the new index alone.
func (r *Rotation) Compute(value any) ([]Assignment, error) {
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

// Lookup returns what to search for under both indexes: rows that match any of
// the lookups are wanted (OR). NULL is sought in the old column only, since rows
// that are not filled yet are NULL in the new one. If both use one column there is
// one lookup.
func (r *Rotation) Lookup(values ...any) ([]Lookup, error) {
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

func (r *Rotation) oneColumn() bool { return r.before.name == r.after.name }
