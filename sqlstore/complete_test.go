package sqlstore_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Records that were written while one of two key services was away get their
// second wrap; the others, at the same version or an old one, stay as they are.
func testComplete(t *testing.T, d database) {
	const n, each = 90, 3
	db := d.open(t)
	first, second := keys(t, t.TempDir())
	away := kmstest.NewService(second)
	both := multi.New([]kmsencrypted.Provider{first, away.Provider()}, multi.Options{Quorum: 1, Tags: []string{"first", "second"}})
	at := func(current int) *field.Model[person] {
		b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: {Provider: first}, 2: {Provider: both}}}.Box()
		must(t, err)
		return model[person](t, b, "people")
	}
	m := at(2)
	create(t, d, db, m, "id bigint PRIMARY KEY")
	var people [each][]*person // at an old version, with one wrap, with both
	for i := range n {
		p := &person{ID: int64(i + 1), Email: field.New(fmt.Sprintf("p%d@example.org", i+1))}
		people[i%each] = append(people[i%each], p)
	}
	insert(t, db, at(1), people[0])
	away.Set(kmstest.Unavailable(1))
	insert(t, db, m, people[1])
	away.Set()
	insert(t, db, m, people[2])
	columns := func() (stored []string) {
		must(t, db.Select(&stored, "SELECT encrypted_kms_key FROM people ORDER BY id"))
		return stored
	}
	before := columns()

	r := rotator(t, d, db, m.Adapter().Box(), m, rotation.Options{Kind: rotation.Complete, BatchSize: 20, Workers: 1})
	plan, err := r.Plan(t.Context())
	must(t, err)
	if plan.Records != 2*n/each || plan.Keys != 2*n/each || plan.Calls != 3*plan.Keys+min(plan.Keys, 100) {
		t.Errorf("Plan() = %+v, want %d records at most", plan, 2*n/each)
	}
	away.Set(kmstest.Unavailable(1))
	var lacking person
	must(t, db.Unsafe().Get(&lacking, "SELECT * FROM people WHERE id = 2"))
	if n := m.Adapter().Incomplete(&lacking); n != 1 {
		t.Errorf("Incomplete() = %d, want 1", n)
	}
	if err := m.Adapter().Complete(t.Context(), &lacking); !errors.Is(err, kmsencrypted.ErrUnavailable) {
		t.Errorf("Complete() while the service is away = %v, want ErrUnavailable", err)
	}
	if w, err := m.Adapter().Write(&lacking); err != nil || len(w.Set) != 0 {
		t.Errorf("a record that could not be completed is to be written: %d columns, %v", len(w.Set), err)
	}
	away.Set()
	away.Forget()
	result, err := r.Run(t.Context())
	must(t, err)
	if !result.Done || result.Written != n/each || result.Failed != 0 || len(away.Calls()) != n/each {
		t.Errorf("Run() = %+v with %d calls of the service, want %d records", result, len(away.Calls()), n/each)
	}
	for i, column := range columns() {
		if changed := column != before[i]; changed != (i%each == 1) {
			t.Errorf("record %d: changed %v", i+1, changed)
		}
		if missing, err := both.Missing(column); i%each > 0 && (err != nil || missing != nil) {
			t.Errorf("record %d lacks %v, %v", i+1, missing, err)
		}
	}
	for _, p := range load(t, db, m) {
		if p.Email.Must() != fmt.Sprintf("p%d@example.org", p.ID) {
			t.Errorf("record %d is %s", p.ID, p.Email.Must())
		}
	}
	one := at(1)
	refusing := rotator(t, d, db, one.Adapter().Box(), one, rotation.Options{Kind: rotation.Complete})
	if plan, err := refusing.Plan(t.Context()); err != nil || !errors.Is(plan.Refused, kmsencrypted.ErrConfig) {
		t.Errorf("Plan() for a version of one wrap = %v, refused by %v; want ErrConfig", err, plan.Refused)
	}
	if _, err := refusing.Run(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Run() for a version of one wrap = %v, want ErrConfig", err)
	}
}
