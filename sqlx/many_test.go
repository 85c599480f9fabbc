package kmssqlx_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// InsertMany writes chunk after chunk, reports each, and goes on behind an error.
func insertMany(t *testing.T, e *env) {
	s := e.customers(t)
	all := make([]customer, 12)
	for i := range all {
		all[i] = customer{Name: fmt.Sprint("nomen", i), Email: field.New(email(i))}
	}
	all[8].Name = all[1].Name
	rows := field.Pointers(all)
	var reports []int
	options := kmssqlx.InsertOptions{ChunkSize: 5, Progress: func(done, total int) { reports = append(reports, done, total) }}
	done, err := kmssqlx.InsertMany(t.Context(), e.db, s.Model, rows, options)
	failures, ok := errors.AsType[field.Failures](err)
	if !ok || len(failures) != 1 || failures[0].Index != 8 || done != 5 {
		t.Errorf("InsertMany of a name twice: %d records and %v, want 5 and the record at index 8", done, err)
	}
	all[8].Name = "free"
	rest, err := kmssqlx.InsertMany(t.Context(), e.db, s.Model, rows[done:], options)
	must(t, err)
	if want := []int{5, 12, 5, 7, 7, 7}; rest != 7 || !slices.Equal(reports, want) {
		t.Errorf("%d records, reported %d, want 7 and %d", rest, reports, want)
	}
	var read []customer
	must(t, kmssqlx.Select(t.Context(), e.db, s.Model, &read, "SELECT * FROM "+e.table+" ORDER BY email_bidx"))
	if len(read) != len(all) {
		t.Errorf("%d rows, want %d", len(read), len(all))
	}
	// A single record in the last chunk is named too.
	last := []*customer{{Name: "new", Email: field.New(email(1))}, {Name: "new", Email: field.New(email(2))}}
	_, err = kmssqlx.InsertMany(t.Context(), e.db, s.Model, last, kmssqlx.InsertOptions{ChunkSize: 1})
	if failures, ok := errors.AsType[field.Failures](err); !ok || failures[0].Index != 1 {
		t.Errorf("chunks of one: %v, want the record at index 1", err)
	}
}
