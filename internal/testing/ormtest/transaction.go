package ormtest

import (
	"errors"
	"testing"
)

var errRolledBack = errors.New("as after a serialization failure")

// retried runs f in a transaction that is rolled back, and again in one that commits.
func (w *work) retried(t testing.TB, f func(DB) error) {
	t.Helper()
	if err := w.DB.Transaction(w.ctx, func(tx DB) error { must(t, f(tx)); return errRolledBack }); !errors.Is(err, errRolledBack) {
		t.Fatalf("the transaction that is rolled back: %v", err)
	}
	must(t, w.DB.Transaction(w.ctx, f))
}

func rollback(t *testing.T, w *work) {
	r := w.add(t, 1)[0]
	before := w.columns(t)
	err := w.DB.Transaction(w.ctx, func(tx DB) error {
		must(t, tx.Insert(w.ctx, tx.New(0, person(5)), tx.New(5_000_000, person(6))))
		held, err := tx.Find(w.ctx, r.ID())
		must(t, err)
		held.SetEmail(email(1))
		must(t, tx.Update(w.ctx, held))
		again, err := tx.Find(w.ctx, r.ID()) // its own writes
		must(t, err)
		want := person(0)
		want.Email = email(1)
		holds(t, "inside the transaction", again, want)
		return errRolledBack
	})
	if !errors.Is(err, errRolledBack) {
		t.Errorf("Transaction = %v", err)
	}
	if w.columns(t) != before {
		t.Error("a rolled-back transaction changed the table")
	}
}

// The same records are inserted again after a rollback: those with ids of the
// database get others.
func retryInsert(t *testing.T, w *work) {
	for what, ids := range map[string][]int64{"assigned": {0}, "several": {0, 0, 0}, "given": {6_000_000}} {
		rows := make([]Record, len(ids))
		for i, id := range ids {
			v := person(i)
			v.Name += what
			rows[i] = w.DB.New(id, v)
		}
		w.retried(t, func(tx DB) error { return tx.Insert(w.ctx, rows...) })
		for i, r := range rows {
			v := person(i)
			v.Name += what
			w.want(t, what, r.ID(), v)
			r.SetPhone(phone(9))
			must(t, w.DB.Update(w.ctx, r))
			v.Phone = phone(9)
			w.want(t, what+", updated", r.ID(), v)
		}
	}
}

func retryUpdate(t *testing.T, w *work) {
	r := w.add(t, 1)[0]
	want := person(0)
	r.SetEmail(email(1))
	w.retried(t, func(tx DB) error { return tx.Update(w.ctx, r) })
	want.Email = email(1)
	w.want(t, "an update that was repeated", r.ID(), want)

	// Rolled back, and another column is written afterwards.
	r = w.find(t, r.ID())
	r.SetEmail(email(2))
	_ = w.DB.Transaction(w.ctx, func(tx DB) error { must(t, tx.Update(w.ctx, r)); return errRolledBack })
	r.SetPhone(phone(2))
	must(t, w.DB.Update(w.ctx, r))
	want.Email, want.Phone = email(2), phone(2)
	w.want(t, "an update after a rollback", r.ID(), want)

	// The first keys, and a move.
	empty := w.DB.New(0, Values{Tenant: "a", Name: "empty"})
	must(t, w.DB.Insert(w.ctx, empty))
	empty = w.find(t, empty.ID())
	empty.SetEmail(email(3))
	w.retried(t, func(tx DB) error { return tx.Update(w.ctx, empty) })
	w.want(t, "first key, repeated", empty.ID(), Values{Tenant: "a", Name: "empty", Email: email(3)})
	for _, tenant := range []string{"ab", "b"} {
		r := w.find(t, r.ID())
		r.SetTenant(tenant)
		w.retried(t, func(tx DB) error { return tx.Update(w.ctx, r) })
		want.Tenant = tenant
		w.want(t, "a move, repeated", r.ID(), want)
	}
	// After a commit a second write reverts no change of others.
	a, b := w.find(t, r.ID()), w.find(t, r.ID())
	a.SetEmail(email(4))
	must(t, w.DB.Transaction(w.ctx, func(tx DB) error { return tx.Update(w.ctx, a) }))
	b.SetEmail(email(5))
	must(t, w.DB.Update(w.ctx, b))
	a.SetPhone(phone(6))
	err := w.DB.Update(w.ctx, a)
	want.Email = email(5)
	if err == nil {
		want.Phone = phone(6)
	} else {
		wantError(t, "a write after that of another program", err)
	}
	w.want(t, "after a commit and another program", r.ID(), want)
}
