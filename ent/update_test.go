package kment_test

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop/customer"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func init() {
	suite = append(suite,
		test{"UpdateWritesWhatChanged", updateWritesWhatChanged},
		test{"UpdateOneID", updateOneID},
		test{"UpdateCalls", updateCalls},
		test{"UpdateGone", updateGone},
		test{"UpdateScoped", updateScoped},
		test{"UpdateConflict", updateConflict},
		test{"UpdateAfterRewrap", updateAfterRewrap},
		test{"UpdateFirstKeyRace", updateFirstKeyRace},
		test{"UpdatePartlyRead", updatePartlyRead},
		test{"UpdateChangedEntity", updateChangedEntity},
		test{"UpdateInTransaction", updateInTransaction},
		test{"UpdateEncryptOnly", updateEncryptOnly},
		test{"UpdateWithEdges", updateWithEdges},
		test{"Hooks", hooks},
	)
}

// Two programs that change different columns do not undo each other's changes.
func updateWritesWhatChanged(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	a, b := s.get(t, c.ID), s.get(t, c.ID)
	_, err := a.Update().SetEmail(field.New(email(7))).SetName("Ada").AddVisits(3).Save(t.Context())
	must(t, err)
	got, err := b.Update().SetPhone(field.New(new(secret))).AddVisits(4).Save(t.Context())
	must(t, err)
	for _, got := range []*shop.Customer{got, s.get(t, c.ID)} {
		if got.Email.Must() != email(7) || *got.Phone.Must() != secret || got.Name != "Ada" || got.Visits != 7 || string(got.Card.Must()) != secret {
			t.Errorf("after two updates: %v", got)
		}
	}
	// The index follows.
	found, err := s.client.Customer.Query().Where(s.byEmail(email(7))).Only(t.Context())
	must(t, err)
	if found.ID != c.ID {
		t.Errorf("found %v", found)
	}
	got, err = found.Update().SetEmail(found.Email).Save(t.Context())
	must(t, err)
	if got.Email.Must() != email(7) {
		t.Errorf("after the same value: %v", got)
	}
}

func updateOneID(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	got, err := s.client.Customer.UpdateOneID(c.ID).SetEmail(field.New(email(8))).ClearCard().Save(t.Context())
	must(t, err)
	if got.Email.Must() != email(8) || !got.Card.IsNull() || got.Devices.Must()[secret] != devices(0)[secret] {
		t.Errorf("UpdateOneID = %v", got)
	}
	if got := s.get(t, c.ID); got.Email.Must() != email(8) || !got.Card.IsNull() {
		t.Errorf("Get = %v", got)
	}
	id := uuid.New()
	must(t, s.client.Note.Create().SetID(id).SetTitle("empty").Exec(t.Context()))
	n, err := s.client.Note.UpdateOneID(id).SetText(field.New(secret)).Save(t.Context())
	must(t, err)
	if n.Text.Must() != secret || n.Title != "empty" {
		t.Errorf("UpdateOneID = %v", n)
	}
}

func updateCalls(t *testing.T, e *env) {
	s := e.store(t)
	c := s.get(t, s.create(t, 1)[0].ID)
	if wraps, unwraps := s.calls(func() { must(t, c.Update().SetEmail(field.New(email(2))).Exec(t.Context())) }); wraps+unwraps != 0 {
		t.Errorf("an update of an open entity makes %d wraps and %d unwraps", wraps, unwraps)
	}
	s.log.take()
	must(t, c.Update().SetName("plain").Exec(t.Context()))
	must(t, c.Update().SetEmail(field.New(email(3))).Exec(t.Context()))
	if sent := s.log.take(); len(sent) != 6 { // each ent's transaction, an UPDATE, and ent's SELECT
		t.Errorf("%d statements: %q", len(sent), sent)
	}
}

func updateGone(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	must(t, s.client.Customer.DeleteOne(c).Exec(t.Context()))
	for what, err := range map[string]error{
		"UpdateOne":   c.Update().SetEmail(field.New(email(1))).Exec(t.Context()),
		"UpdateOneID": s.client.Customer.UpdateOneID(c.ID).SetEmail(field.New(email(1))).Exec(t.Context()),
	} {
		if !shop.IsNotFound(err) {
			t.Errorf("%s = %v, want a NotFoundError", what, err)
		}
	}
}

// A condition of the program that does not hold is no conflict.
func updateScoped(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	err := c.Update().Where(customer.Visits(5)).SetEmail(field.New(email(1))).SetVisits(6).Exec(t.Context())
	if !shop.IsNotFound(err) {
		t.Errorf("a condition that does not hold: %v", err)
	}
	if got := s.get(t, c.ID); got.Email.Must() != email(0) || got.Visits != 0 {
		t.Errorf("the row is %v", got)
	}
	got, err := c.Update().Where(customer.Or(customer.Visits(5), customer.Visits(0))).SetEmail(field.New(email(1))).SetVisits(0).Save(t.Context())
	must(t, err)
	if got.Email.Must() != email(1) {
		t.Errorf("Save = %v", got)
	}
	s.rekey(t, c.ID)
	err = c.Update().Where(customer.Or(customer.Visits(5), customer.Visits(0))).SetEmail(field.New(email(2))).Exec(t.Context())
	wantError(t, "another data key", err, kmsencrypted.ErrConflict)
}

// rekey gives a row another data key, as a rotation does.
func (s *store) rekey(t testing.TB, id int) { s.rotate(t, id, s.customers.Rekey) }

func (s *store) rotate(t testing.TB, id int, f func(context.Context, ...*shop.Customer) error) {
	t.Helper()
	c := s.get(t, id)
	must(t, f(t.Context(), c))
	w, err := s.customers.Adapter().Write(c)
	must(t, err)
	for _, a := range w.Set {
		placeholder := map[string]string{"postgres": "$1", "mysql": "?", "sqlite3": "?"}[s.dialect]
		id := map[string]string{"postgres": "$2", "mysql": "?", "sqlite3": "?"}[s.dialect]
		_, err := s.db.ExecContext(t.Context(), "UPDATE customers SET "+a.Column+" = "+placeholder+" WHERE id = "+id, a.Value, c.ID)
		must(t, err)
	}
}

func updateConflict(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	s.rekey(t, c.ID)
	err := c.Update().SetEmail(field.New(email(1))).SetName("lost").Exec(t.Context())
	wantError(t, "after a rekey", err, kmsencrypted.ErrConflict)
	if got := s.get(t, c.ID); got.Email.Must() != email(0) || got.Name != "name0" {
		t.Errorf("the row is %v", got)
	}
	// Only the plain column does not depend on the key.
	must(t, c.Update().SetName("plain").Exec(t.Context()))
	_, err = s.get(t, c.ID).Update().SetEmail(field.New(email(1))).Save(t.Context())
	must(t, err)
}

func updateAfterRewrap(t *testing.T, e *env) {
	k := kmstest.NewService(kmstest.Memory())
	first := kmsencrypted.Version{Provider: k.Provider()}
	s := e.with(t, k, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: first}})
	c := s.create(t, 1)[0]
	next := e.with(t, k, kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{1: first, 2: {Provider: kmstest.Memory()}}})
	c = next.get(t, c.ID)
	next.rotate(t, c.ID, next.customers.Rewrap)
	got, err := c.Update().SetEmail(field.New(email(1))).Save(t.Context())
	must(t, err)
	if got.Email.Must() != email(1) || next.get(t, c.ID).Devices.Must()[secret] != devices(0)[secret] {
		t.Errorf("after a rewrap: %v", got)
	}
	if v, _ := next.get(t, c.ID).EncryptedKmsKey.Version(); v != 2 {
		t.Errorf("the key column has version %d, want that of the rotation", v)
	}
}

func updateFirstKeyRace(t *testing.T, e *env) {
	s := e.store(t)
	c, err := s.client.Customer.Create().SetName("none").Save(t.Context())
	must(t, err)
	a, b := s.get(t, c.ID), s.get(t, c.ID)
	must(t, a.Update().SetEmail(field.New(email(1))).Exec(t.Context()))
	err = b.Update().SetPhone(field.New(new(secret))).Exec(t.Context())
	wantError(t, "the second first key", err, kmsencrypted.ErrConflict)
	if got := s.get(t, c.ID); got.Email.Must() != email(1) {
		t.Errorf("the row is %v", got)
	}
}

func updatePartlyRead(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	part, err := s.client.Customer.Query().Select(customer.FieldName).Only(t.Context())
	must(t, err)
	s.wantRefused(t, "an entity without its key", func() error {
		return part.Update().SetEmail(field.New(email(1))).Exec(t.Context())
	}, kmsencrypted.ErrNotLoaded)
	part, err = s.client.Customer.Query().Select(customer.FieldName, customer.FieldEncryptedKmsKey).Only(t.Context())
	must(t, err)
	got, err := part.Update().SetEmail(field.New(email(1))).Select(customer.FieldName, customer.FieldEmail, customer.FieldEncryptedKmsKey).Save(t.Context())
	must(t, err)
	if got.Email.Must() != email(1) || got.Devices.IsLoaded() {
		t.Errorf("Save = %v", got)
	}
	if got := s.get(t, c.ID); got.Email.Must() != email(1) || got.Devices.Must()[secret] != devices(0)[secret] {
		t.Errorf("the row is %v", got)
	}
	if _, err := s.client.Customer.Query().Select(customer.FieldEmail).Only(t.Context()); err == nil {
		t.Error("an encrypted column was opened without its key")
	}
}

// ent writes what is set in the update. A change of the entity itself would be lost in
// silence.
func updateChangedEntity(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	c.Email.Set(email(5))
	s.wantRefused(t, "Set of a field", func() error { return c.Update().SetPhone(field.New(new(secret))).Exec(t.Context()) }, kmsencrypted.ErrUnsealed)
	c = s.get(t, c.ID)
	c.Devices.Must()["other"] = devices(1)[secret]
	s.wantRefused(t, "a change in place", func() error { return c.Update().SetPhone(field.New(new(secret))).Exec(t.Context()) }, kmsencrypted.ErrUnsealed)
	c = s.get(t, c.ID)
	more := devices(1)
	more["other"] = c.Devices.Must()[secret]
	got, err := c.Update().SetDevices(field.New(more)).Save(t.Context())
	must(t, err)
	if len(got.Devices.Must()) != 2 || len(s.get(t, c.ID).Devices.Must()) != 2 {
		t.Errorf("Save = %v", got)
	}
}

func updateInTransaction(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	run := func(commit bool) (made *shop.Customer) {
		tx, err := s.client.Tx(t.Context())
		must(t, err)
		defer tx.Rollback()
		now, err := tx.Customer.UpdateOne(c).SetEmail(field.New(email(1))).Save(t.Context())
		must(t, err)
		now, err = tx.Customer.UpdateOne(now).SetPhone(field.New(new(secret))).SetEmail(field.New(email(2))).Save(t.Context())
		must(t, err)
		made, err = tx.Customer.Create().SetName("in").SetEmail(field.New(email(5))).Save(t.Context())
		must(t, err)
		made, err = tx.Customer.UpdateOne(made).SetEmail(field.New(email(6))).Save(t.Context())
		must(t, err)
		if now.Email.Must() != email(2) || made.Email.Must() != email(6) {
			t.Errorf("in the transaction: %v, %v", now, made)
		}
		if commit {
			must(t, tx.Commit())
		}
		return made
	}
	run(false)
	if got := s.get(t, c.ID); got.Email.Must() != email(0) || !got.Phone.IsNull() {
		t.Errorf("after the rollback: %v", got)
	}
	made := run(true) // the same entity again
	if got := s.get(t, c.ID); got.Email.Must() != email(2) || *got.Phone.Must() != secret {
		t.Errorf("after the commit: %v", got)
	}
	if got := s.get(t, made.ID); got.Email.Must() != email(6) {
		t.Errorf("created in the transaction: %v", got)
	}
}

// A process that may not decrypt gives the row another data key.
func updateEncryptOnly(t *testing.T, e *env) {
	k := kmstest.NewService(kmstest.Memory())
	s := e.with(t, k, config(k))
	id := uuid.New()
	must(t, s.client.Note.Create().SetID(id).SetText(field.New(secret)).Exec(t.Context()))
	only := e.with(t, k, config(k, func(v *kmsencrypted.Version) { v.EncryptOnly = true }))
	n, err := only.client.Note.Get(lazily(t), id)
	must(t, err)
	err = n.Update().SetText(field.New(email(1))).Exec(lazily(t))
	wantError(t, "some of the fields", err, kmsencrypted.ErrNeedsDecrypt)
	must(t, n.Update().SetText(field.New(email(1))).ClearNumber().Exec(lazily(t)))
	got, err := s.client.Note.Get(t.Context(), id)
	must(t, err)
	if got.Text.Must() != email(1) || !got.Number.IsNull() {
		t.Errorf("Get = %v", got)
	}
	// A column of a newer release would be lost.
	_, err = s.db.ExecContext(t.Context(), "ALTER TABLE notes ADD COLUMN newer_ciphertext text")
	must(t, err)
	defer s.db.ExecContext(t.Context(), "ALTER TABLE notes DROP COLUMN newer_ciphertext")
	_, err = s.db.ExecContext(t.Context(), "UPDATE notes SET newer_ciphertext = 'wA'")
	must(t, err)
	n, err = only.client.Note.Get(lazily(t), id)
	must(t, err)
	err = n.Update().SetText(field.New(email(2))).ClearNumber().Exec(lazily(t))
	wantError(t, "a column that is not known", err, kmsencrypted.ErrNeedsDecrypt)
}

func updateWithEdges(t *testing.T, e *env) {
	s := e.store(t)
	all := s.create(t, 3)
	note, err := s.client.Note.Create().SetText(field.New(secret)).Save(t.Context())
	must(t, err)
	got, err := all[0].Update().AddFriends(all[1], all[2]).AddNotes(note).SetEmail(field.New(email(9))).Save(t.Context())
	must(t, err)
	friends, err := got.QueryFriends().All(t.Context())
	must(t, err)
	notes, err := got.QueryNotes().All(t.Context())
	must(t, err)
	if len(friends) != 2 || len(notes) != 1 || notes[0].Text.Must() != secret || s.get(t, got.ID).Email.Must() != email(9) {
		t.Errorf("friends %v, notes %v", friends, notes)
	}
	s.rekey(t, got.ID)
	err = got.Update().RemoveFriends(all[1]).SetEmail(field.New(email(4))).Exec(t.Context())
	wantError(t, "a conflict", err, kmsencrypted.ErrConflict)
	if n := got.QueryFriends().CountX(t.Context()); n != 2 {
		t.Errorf("%d friends after the conflict", n)
	}
}

// Hooks of the program run before anything is sealed: they see and set plaintexts.
func hooks(t *testing.T, e *env) {
	s := e.store(t)
	seen := ""
	s.client.Customer.Use(func(next shop.Mutator) shop.Mutator {
		return shop.MutateFunc(func(ctx context.Context, m shop.Mutation) (shop.Value, error) {
			c := m.(*shop.CustomerMutation)
			if now, ok := c.Email(); ok {
				seen = now.Must()
			}
			c.SetPhone(field.New(new("hook@" + secret)))
			v, err := next.Mutate(ctx, m)
			if c, ok := v.(*shop.Customer); ok && err == nil && *c.Phone.Must() != "hook@"+secret {
				t.Errorf("after the mutation: %v", c)
			}
			return v, err
		})
	})
	c := s.create(t, 1)[0]
	if seen != email(0) || *s.get(t, c.ID).Phone.Must() != "hook@"+secret {
		t.Errorf("the hook saw %t", seen == email(0))
	}
	must(t, c.Update().SetEmail(field.New(email(3))).Exec(t.Context()))
	if seen != email(3) {
		t.Error("the hook saw no update")
	}
}
