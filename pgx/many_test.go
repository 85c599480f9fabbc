package kmspgx_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
)

// InsertMany writes chunk after chunk, reports each, and goes on behind an error.
func insertMany(t *testing.T, e *env) {
	s := e.customers(t)
	all := newCustomers(12)
	name := all[8].Name
	all[8].Name = all[1].Name
	rows := field.Pointers(all)
	var reports []int
	options := kmspgx.InsertOptions{ChunkSize: 5, Progress: func(done, total int) { reports = append(reports, done, total) }}
	done, err := kmspgx.InsertMany(t.Context(), e.db, s.Model, rows, options)
	failures, ok := errors.AsType[field.Failures](err)
	if !ok || len(failures) != 1 || failures[0].Index != 8 || done != 5 {
		t.Errorf("InsertMany of a name twice: %d records and %v, want 5 and the record at index 8", done, err)
	}
	all[8].Name = name
	rest, err := kmspgx.InsertMany(t.Context(), e.db, s.Model, rows[done:], options)
	must(t, err)
	if want := []int{5, 12, 5, 7, 7, 7}; rest != 7 || !slices.Equal(reports, want) {
		t.Errorf("%d records, reported %d, want 7 and %d", rest, reports, want)
	}
	if n := len(collect(t, e, s.Model, "ORDER BY id")); n != len(all) {
		t.Errorf("%d rows, want %d", n, len(all))
	}
}
