package sqlstore_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// fails is a key service that is right for as long as it is looked at, and then
// answers what it cannot open.
type fails struct {
	kmsencrypted.Provider
	from *int // encryptions until then
}

func (f fails) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	wrapped, err := f.Provider.Encrypt(ctx, plaintext, ec)
	if *f.from--; *f.from < 0 && err == nil {
		wrapped[len(wrapped)-1] ^= 1
	}
	return wrapped, err
}

// testPutBack: what a key service made garbage of after it was trusted is healed with
// the journal of the rewrap.
func testPutBack(t *testing.T, d database) {
	const n, good = 300, 200
	dir, db := t.TempDir(), d.open(t)
	a, b := keys(t, dir)
	left := good
	at := func(current int, second kmsencrypted.Provider) *kmsencrypted.Box {
		box, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: {Provider: a}, 2: {Provider: second}, 3: {Provider: b}}, Concurrency: 1}.Box()
		must(t, err)
		return box
	}
	old := model[person](t, at(1, b), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprint("person ", i+1))}
	}
	insert(t, db, old, people)
	of := func(box *kmsencrypted.Box, o rotation.Options) *rotation.Rotator {
		return rotator(t, d, db, box, model[person](t, box, "people"), o)
	}
	o := rotation.Options{Workers: 1, Shards: 1, BatchSize: 100, TargetTime: -1}
	if result, err := of(at(2, fails{b, &left}), o).Run(t.Context()); err != nil || result.Written != n {
		t.Fatalf("Run() = %+v, %v", result, err)
	}
	r := of(at(2, b), o)
	verify := func(want int) {
		t.Helper()
		v, err := r.Verify(t.Context(), rotation.VerifyOptions{Note: true})
		must(t, err)
		if len(v.Failures) != want {
			t.Fatalf("Verify() has %d failures, want %d", len(v.Failures), want)
		}
	}
	verify(n - good)
	journals, err := r.Journals(t.Context())
	must(t, err)
	if len(journals) != 1 || journals[0].Keys != n || journals[0].Kind != rotation.Rewrap {
		t.Fatalf("Journals() = %+v", journals)
	}
	if dry, err := r.Heal(t.Context(), journals[0].ID, rotation.HealOptions{DryRun: true}); err != nil || dry.Mended != n-good {
		t.Errorf("Heal(dry) = %+v, %v", dry, err)
	}
	verify(n - good)
	if h, err := r.Heal(t.Context(), journals[0].ID, rotation.HealOptions{}); err != nil || h.Mended != n-good || len(h.Failures) != 0 || h.Looked != n {
		t.Errorf("Heal() = %+v, %v", h, err)
	}
	verify(0)
	for _, p := range load(t, db, model[person](t, at(2, b), "people")) {
		if p.Email.Must() != fmt.Sprint("person ", p.ID) {
			t.Errorf("record %d holds something else", p.ID)
		}
	}
	// The journal has one generation of rewraps, none without it, and what is under a
	// key that is destroyed can be erased.
	count := func() (n int64) {
		must(t, db.Get(&n, "SELECT count(*) FROM kms_rotation_journal"))
		return n
	}
	if result, err := of(at(3, b), o).Run(t.Context()); err != nil || result.Written != n || count() != n {
		t.Errorf("Run() = %+v, %v; the journal has %d keys, want those of the last rewrap", result, err, count())
	}
	r = of(at(3, b), o)
	verify(0)
	without := o
	without.NoJournal = true
	if result, err := of(at(1, b), without).Run(t.Context()); err != nil || result.Written != n || count() != 0 {
		t.Errorf("Run(NoJournal) = %+v, %v; the journal has %d keys", result, err, count())
	}
	if result, err := of(at(2, b), o).Run(t.Context()); err != nil || result.Written != n || count() != n {
		t.Errorf("Run() = %+v, %v; the journal has %d keys", result, err, count())
	}
	s, err := sqlstore.New(t.Context(), db.DB, d.dialect, model[person](t, at(2, b), "people"), sqlstore.Options{})
	must(t, err)
	for _, step := range []struct {
		key    string
		erased int64
	}{{b.Info().KeyID, 0}, {"LOCAL" + a.Info().KeyID[5:], 0}, {a.Info().KeyID, n}} {
		if erased, err := s.ForgetKey(t.Context(), db, step.key); err != nil || erased != step.erased {
			t.Errorf("ForgetKey(%s) = %d, %v, want %d", step.key, erased, err, step.erased)
		}
	}
}
