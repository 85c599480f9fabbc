package ormtest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// Two programs change two encrypted columns, under one key or two.
func twoWriters(t *testing.T, w *work) {
	id := w.add(t, 1)[0].ID()
	a, b := w.find(t, id), w.find(t, id)
	a.SetEmail(email(1))
	b.SetPhone(phone(2))
	must(t, w.DB.Update(w.ctx, a))
	must(t, w.DB.Update(w.ctx, b))
	want := person(0)
	want.Email, want.Phone = email(1), phone(2)
	w.want(t, "after two writers", id, want)
	// If both write the same column, the last one wins, as without encryption.
	a.SetPhone(phone(3))
	must(t, w.DB.Update(w.ctx, a))
	want.Phone = phone(3)
	w.want(t, "after the last writer", id, want)
}

// After a rewrap the data key is the same, and the update goes through.
func rewrapped(t *testing.T, w *work) {
	id := w.add(t, 1)[0].ID()
	r := w.find(t, id)
	w.rewrap(t, id)
	key := w.keyOf(t, id)
	r.SetEmail(email(1))
	must(t, w.DB.Update(w.ctx, r))
	want := person(0)
	want.Email = email(1)
	w.want(t, "an update beside a rewrap", id, want)
	if w.keyOf(t, id) != key {
		t.Error("the update undid the rewrap")
	}
}

// After a rekey it is another one: the update must not be written.
func rekeyed(t *testing.T, w *work) {
	id := w.add(t, 1)[0].ID()
	r := w.find(t, id)
	w.rekey(t, id)
	before := w.columns(t)
	r.SetEmail(email(1))
	r.SetName("changed")
	wantError(t, "an update beside a rekey", w.DB.Update(w.ctx, r), kmsencrypted.ErrConflict)
	if w.columns(t) != before {
		t.Error("a conflict changed the row")
	}
	r = w.find(t, id)
	r.SetEmail(email(1))
	must(t, w.DB.Update(w.ctx, r))
	want := person(0)
	want.Email = email(1)
	w.want(t, "read again and repeated", id, want)
}

// Two programs give a row its first keys.
func firstKeys(t *testing.T, w *work) {
	r := w.DB.New(0, Values{Tenant: "a", Name: "empty"})
	must(t, w.DB.Insert(w.ctx, r))
	a, b, c := w.find(t, r.ID()), w.find(t, r.ID()), w.find(t, r.ID())
	a.SetEmail(email(1))
	b.SetEmail(email(2))
	c.SetPhone(phone(3)) // under the other key
	must(t, w.DB.Update(w.ctx, a))
	wantError(t, "the second first key", w.DB.Update(w.ctx, b), kmsencrypted.ErrConflict)
	if err := w.DB.Update(w.ctx, c); err != nil { // the record's plain columns may want both keys unchanged
		wantError(t, "the first key beside another", err, kmsencrypted.ErrConflict)
		c = w.find(t, r.ID())
		c.SetPhone(phone(3))
		must(t, w.DB.Update(w.ctx, c))
	}
	w.want(t, "after first keys", r.ID(), Values{Tenant: "a", Name: "empty", Email: email(1), Phone: phone(3)})
}

// A change under one key is none under the other.
func severalKeys(t *testing.T, w *work) {
	id := w.add(t, 1)[0].ID()
	r := w.find(t, id)
	w.rewrap(t, id) // both
	r.SetEmail(email(1))
	r.SetPhone(phone(1))
	must(t, w.DB.Update(w.ctx, r))
	want := person(0)
	want.Email, want.Phone = email(1), phone(1)
	w.want(t, "two keys beside a rewrap", id, want)
	r.SetPhone(nil)
	must(t, w.DB.Update(w.ctx, r))
	want.Phone = nil
	w.want(t, "a column under the second key", id, want)
}

// Writers, each the owner of one column, and a rotation work on the same rows at once.
// Every row opens at the end, and holds every write that was acknowledged.
func writers(t *testing.T, w *work) {
	const people, rounds = 8, 4
	rows := w.add(t, people)
	deadline := time.Now().Add(time.Minute)
	var group sync.WaitGroup
	for i, r := range rows {
		id := r.ID()
		for _, set := range []func(Record, int){
			func(r Record, n int) { r.SetEmail(email(100*i + n)) },
			func(r Record, n int) { r.SetPhone(phone(100*i + n)) },
			func(r Record, n int) { r.SetNickname(nickname(100*i + n)) },
		} {
			group.Go(func() {
				for n := range rounds {
					w.repeat(t, deadline, func(ctx context.Context) error {
						r, err := w.DB.Find(ctx, id)
						if err != nil {
							return err
						}
						set(r, n)
						return w.DB.Update(ctx, r)
					})
				}
			})
		}
		group.Go(func() {
			for range rounds {
				w.repeat(t, deadline, func(ctx context.Context) error {
					var p Person
					if err := kmssqlx.Get(ctx, w.db, w.other, &p, "SELECT * FROM "+Table+" WHERE id = ?", id); err != nil {
						return err
					}
					if rand.IntN(2) == 0 {
						return kmssqlx.Rewrap(ctx, w.db, w.other, &p)
					}
					return kmssqlx.Rekey(ctx, w.db, w.other, &p)
				})
			}
		})
	}
	group.Wait()
	for i, r := range rows {
		want := person(i)
		want.Email, want.Phone, want.Nickname = email(100*i+rounds-1), phone(100*i+rounds-1), nickname(100*i+rounds-1)
		w.want(t, "after all writers", r.ID(), want)
		holds(t, "after all writers", w.find(t, r.ID()), want)
	}
}

// repeat does what a program does about a conflict or a deadlock.
func (w *work) repeat(t *testing.T, deadline time.Time, f func(context.Context) error) {
	for {
		err := f(w.ctx)
		state, _ := sqldialect.SQLState(err)
		again := errors.Is(err, kmsencrypted.ErrConflict) || state == "40001" || state == "40P01"
		switch {
		case err == nil:
			return
		case !again || time.Now().After(deadline):
			t.Error(err)
			return
		}
	}
}
