package ormtest

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// A record moves to another tenant, of the same key or of another.
func move(t *testing.T, w *work) {
	r := w.add(t, 1)[0]
	want := person(0)
	for _, tenant := range []string{"ab", "b", "ba", "a"} {
		r.SetTenant(tenant)
		must(t, w.DB.Update(w.ctx, r))
		want.Tenant = tenant
		w.want(t, "moved to "+tenant, r.ID(), want)
		holds(t, "moved to "+tenant, w.find(t, r.ID()), want)
	}
	r.SetTenant("b")
	r.SetEmail(email(1))
	must(t, w.DB.Update(w.ctx, r))
	want.Tenant, want.Email = "b", email(1)
	w.want(t, "moved with a change", r.ID(), want)

	r.SetTenant("nobody")
	before := w.columns(t)
	wantError(t, "a move to a tenant without a key", w.DB.Update(w.ctx, r), kmsencrypted.ErrKeyUnusable)
	if w.columns(t) != before {
		t.Error("a failed move changed the row")
	}
	// A record without a key moves too.
	empty := w.DB.New(0, Values{Tenant: "a", Name: "empty"})
	must(t, w.DB.Insert(w.ctx, empty))
	empty = w.find(t, empty.ID())
	empty.SetTenant("b")
	must(t, w.DB.Update(w.ctx, empty))
	w.want(t, "moved without a key", empty.ID(), Values{Tenant: "b", Name: "empty"})
}

// Others change the row while it moves.
func moveBesideOthers(t *testing.T, w *work) {
	for _, tenant := range []string{"ab", "b"} {
		r := w.DB.New(0, Values{Tenant: "a", Name: "to " + tenant, Email: email(0), Phone: phone(0)})
		must(t, w.DB.Insert(w.ctx, r))
		a, b := w.find(t, r.ID()), w.find(t, r.ID())
		a.SetTenant(tenant)
		must(t, w.DB.Update(w.ctx, a))
		before := w.columns(t)
		b.SetEmail(email(5))
		wantError(t, "a change beside a move", w.DB.Update(w.ctx, b), kmsencrypted.ErrConflict)
		b.SetTenant(tenant)
		wantError(t, "a second move", w.DB.Update(w.ctx, b), kmsencrypted.ErrConflict)
		if w.columns(t) != before {
			t.Error("a conflict changed the row")
		}
		// A rotation comes between: the record keeps its own wrap, or gives way.
		a = w.find(t, r.ID())
		w.rewrap(t, r.ID())
		a.SetTenant("a")
		err := w.DB.Update(w.ctx, a)
		want := Values{Tenant: "a", Name: "to " + tenant, Email: email(0), Phone: phone(0)}
		if tenant == "b" { // of another key
			wantError(t, "a move to another key beside a rewrap", err, kmsencrypted.ErrConflict)
			want.Tenant = "b"
		} else {
			must(t, err)
		}
		w.want(t, "a move beside a rewrap", r.ID(), want)
	}
}
