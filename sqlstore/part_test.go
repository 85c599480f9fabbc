package sqlstore_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// testPart: a run of a part moves exactly that, is continued as that, and retires
// nothing.
func testPart(t *testing.T, d database) {
	const n, part = 300, "id % 3 = 0"
	dir, db := t.TempDir(), d.open(t)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprint("person ", i+1))}
	}
	insert(t, db, old, people)
	const version = 2
	b := box(t, dir, version)
	m := model[person](t, b, "people")
	of := func(part string) *rotation.Rotator {
		return rotator(t, d, db, b, m, rotation.Options{Part: part, Limit: 50, Workers: 1, BatchSize: 25})
	}
	plan, err := of(part).Plan(t.Context())
	must(t, err)
	if plan.Records != n/3 || plan.Versions[0].Rows != n/3 {
		t.Errorf("Plan() = %+v, want %d records", plan, n/3)
	}
	if result, err := of(part).Run(t.Context()); err != nil || result.Written != 50 || result.Done {
		t.Errorf("Run() with a limit = %+v, %v", result, err)
	}
	for _, other := range []string{"", "id % 3 = 1"} {
		if _, err := of(other).Run(t.Context()); !errors.Is(err, kmsencrypted.ErrConflict) {
			t.Errorf("Run() of %q = %v, want ErrConflict", other, err)
		}
	}
	for done := false; !done; {
		result, err := of(part).Run(t.Context())
		must(t, err)
		done = result.Done
	}
	if counts := versions(t, db, "people"); counts[version] != n/3 {
		t.Errorf("%v, want %d at %d", counts, n/3, version)
	}
	status, _, err := of(part).Status(t.Context())
	must(t, err)
	if status.State != rotation.RunDone || status.Part != part || status.Planned != n/3 {
		t.Errorf("Status() = %+v, want a part that is done", status)
	}
	// The rest is moved by somebody else, so that no row is at version 1.
	verified := func(part string) rotation.Verification {
		v, err := of(part).Verify(t.Context(), rotation.VerifyOptions{Note: true})
		must(t, err)
		return v
	}
	for range n / 50 {
		_, err := of("").Run(t.Context())
		must(t, err)
	}
	retire := func() error {
		r, err := of("").Retirable(t.Context(), 1)
		must(t, err)
		return r.Err()
	}
	if v := verified(part); !v.Clean(version) || v.Opened != n/3 || !errors.Is(retire(), rotation.ErrNotRetirable) {
		t.Errorf("Verify() of a part = %+v, and then Retirable() = %v", v, retire())
	}
	v := verified("")
	if erased, err := of("").ClearJournal(t.Context(), 0); err != nil || erased != n {
		t.Errorf("ClearJournal() = %d, %v", erased, err)
	}
	if !v.Clean(version) || v.Opened != n || retire() != nil {
		t.Errorf("Verify() = %+v, and then Retirable() = %v", v, retire())
	}
	// One that fails in a part takes it back.
	db.MustExec("UPDATE people SET email_ciphertext = 'no ciphertext' WHERE id = 3")
	if v := verified(part); len(v.Failures) != 1 || !errors.Is(retire(), rotation.ErrNotRetirable) {
		t.Errorf("Verify() of a damaged part = %+v, and then Retirable() = %v", v, retire())
	}
	s, err := sqlstore.New(t.Context(), db.DB, d.dialect, old, sqlstore.Options{})
	must(t, err)
	if _, err := s.Count(t.Context(), "no_such_column = 1"); err == nil {
		t.Error("Count() of a part that is no condition succeeded")
	}
}
