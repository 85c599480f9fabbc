package records

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// Hits removes opened records that match none of the lookups. fields are those of
// the records.
func Hits[R any](fields []Field, lookups []field.Lookup, rows []R) ([]R, error) {
	return hits(fields, lookups, rows, func(row R) *R { return &row })
}

// HitsAmong is like [Hits] for pointers to records.
func HitsAmong[R any](fields []Field, lookups []field.Lookup, rows []*R) ([]*R, error) {
	return hits(fields, lookups, rows, func(row *R) *R { return row })
}

func hits[E, R any](fields []Field, lookups []field.Lookup, rows []E, record func(E) *R) (_ []E, err error) {
	isHit := func(row *R) bool {
		for _, l := range lookups {
			hit, failure := l.Matches(row)
			if hit {
				return true
			}
			if failure == nil {
				failure = checkable(fields, l, row)
			}
			if err == nil {
				err = failure
			}
		}
		return false
	}
	rows = slices.DeleteFunc(rows, func(row E) bool { return !isHit(record(row)) })
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// checkable returns an error if the query did not read a field that the lookup's
// index is computed from: the record would silently be treated as a false hit.
func checkable[R any](fields []Field, l field.Lookup, row *R) error {
	at := slices.IndexFunc(fields, func(f Field) bool { return f.Column == l.Name })
	if at < 0 {
		return nil
	}
	for name := range strings.SplitSeq(fields[at].option("of"), "+") {
		source := reflect.ValueOf(row).Elem().FieldByName(name).Addr().Interface()
		if loaded, ok := source.(interface{ IsLoaded() bool }); ok && !loaded.IsLoaded() {
			return fmt.Errorf("%w: %s, by which the hits of a lookup are checked", kmsencrypted.ErrNotLoaded, name)
		}
	}
	return nil
}
