package ormtest

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func insert(t *testing.T, w *work) {
	for _, id := range []int64{0, 2_000_000} {
		v := person(int(id))
		r := w.DB.New(id, v)
		must(t, w.DB.Insert(w.ctx, r))
		if r.ID() == 0 || id != 0 && r.ID() != id {
			t.Errorf("Insert with the id %d set %d", id, r.ID())
		}
		holds(t, "the record after Insert", r, v)
		holds(t, "read again", w.find(t, r.ID()), v)
		w.want(t, "inserted", r.ID(), v)
		// It is written again without being read.
		r.SetEmail(email(5))
		must(t, w.DB.Update(w.ctx, r))
		v.Email = email(5)
		w.want(t, "updated after Insert", r.ID(), v)
		must(t, w.DB.Delete(w.ctx, r))
	}
	if n := w.count(t); n != 0 {
		t.Errorf("%d rows after Delete", n)
	}
}

// Each record gets its own id, whatever mixture of ids there is.
func insertMany(t *testing.T, w *work) {
	for what, ids := range map[string][]int64{"assigned": {0, 0, 0, 0}, "given": {3_000_003, 3_000_001}, "mixed": {0, 3_100_000, 0}} {
		rows := make([]Record, len(ids))
		for i, id := range ids {
			v := person(i)
			v.Name += what
			rows[i] = w.DB.New(id, v)
		}
		must(t, w.DB.Insert(w.ctx, rows...))
		for i, r := range rows {
			v := person(i)
			v.Name += what
			holds(t, what, w.find(t, r.ID()), v)
			w.want(t, what, r.ID(), v)
		}
	}
}

func insertAllOrNone(t *testing.T, w *work) {
	for what, id := range map[string]int64{"assigned": 0, "given": 4_000_000} {
		a, b := w.DB.New(id, person(0)), w.DB.New(0, person(0)) // the names are unique
		if id != 0 {
			b = w.DB.New(id+1, person(0))
		}
		wantError(t, "Insert of a name twice, "+what, w.DB.Insert(w.ctx, a, b))
		if n := w.count(t); n != 0 {
			t.Errorf("%s: %d rows after an Insert that failed", what, n)
		}
		must(t, w.DB.Insert(w.ctx, a))
		w.want(t, "inserted after a failure, "+what, a.ID(), person(0))
		must(t, w.DB.Delete(w.ctx, a))
	}
	nobody := person(1)
	nobody.Tenant = "nobody"
	wantError(t, "Insert without a key", w.DB.Insert(w.ctx, w.DB.New(0, person(0)), w.DB.New(0, nobody)), kmsencrypted.ErrKeyUnusable)
	if n := w.count(t); n != 0 {
		t.Errorf("%d rows after an Insert without a key", n)
	}
}

func updateWritesWhatChanged(t *testing.T, w *work) {
	id := w.add(t, 1)[0].ID()
	before := w.person(t, id)
	r := w.find(t, id)
	r.SetNote("changed")
	must(t, w.DB.Update(w.ctx, r))
	want := person(0)
	want.Note = "changed"
	w.want(t, "a plain column", id, want)
	r.SetEmail(email(1))
	wraps, unwraps := w.calls(func() { must(t, w.DB.Update(w.ctx, r)) })
	if wraps != 0 || unwraps != 0 {
		t.Errorf("an update under a data key that is open: %d calls to wrap and %d to unwrap", wraps, unwraps)
	}
	want.Email = email(1)
	w.want(t, "an encrypted column", id, want)
	after := w.person(t, id)
	if stored(t, before.Key) != stored(t, after.Key) || stored(t, before.Phone) != stored(t, after.Phone) {
		t.Error("an update wrote columns that did not change")
	}
	holds(t, "the record after its updates", r, want)
}

// Two programs change two plain columns, and neither undoes the other's change.
func updateOnly(t *testing.T, w *work) {
	id := w.add(t, 1)[0].ID()
	a, b := w.find(t, id), w.find(t, id)
	a.SetName("Ada")
	b.SetNote("countess")
	must(t, w.DB.UpdateOnly(w.ctx, a, "name"))
	must(t, w.DB.UpdateOnly(w.ctx, b, "note"))
	want := person(0)
	want.Name, want.Note = "Ada", "countess"
	w.want(t, "after two updates of columns", id, want)
}

func updateGone(t *testing.T, w *work) {
	r := w.add(t, 1)[0]
	must(t, w.DB.Delete(w.ctx, w.find(t, r.ID())))
	r.SetEmail(email(1))
	_ = w.DB.Update(w.ctx, r) // an error, or no row affected, as the library says it
	if n := w.count(t); n != 0 {
		t.Error("an update made a row")
	}
}

// A record that is written twice is sealed once.
func sealedTwice(t *testing.T, w *work) {
	r := w.add(t, 1)[0]
	want := person(0)
	for i := range 3 {
		r.SetEmail(email(i))
		want.Email = email(i)
		must(t, w.DB.Update(w.ctx, r))
		sealed := w.columns(t)
		must(t, w.DB.Update(w.ctx, r))
		if w.columns(t) != sealed {
			t.Error("an update without a change changed the row")
		}
		w.want(t, "written twice", r.ID(), want)
	}
	r.SetEmail(new(stored(t, w.person(t, r.ID()).Email)))
	wantError(t, "a ciphertext as a value", w.DB.Update(w.ctx, r), kmsencrypted.ErrAlreadyEncrypted)
}

// An update of another column, for which the record is not read, leaves the encrypted
// ones alone.
func emptyModel(t *testing.T, w *work) {
	rows := w.add(t, 2)
	must(t, w.DB.Rename(w.ctx, rows[0].ID(), "Ada"))
	want := person(0)
	want.Name = "Ada"
	w.want(t, "renamed", rows[0].ID(), want)
	w.want(t, "not renamed", rows[1].ID(), person(1))
}
