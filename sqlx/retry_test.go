package kmssqlx_test

import (
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// retried runs do in a transaction that is rolled back and again in one that is
// committed, as a program does after a serialization failure; with savepoints it
// is rolled back to one and goes on in the same transaction.
func (e *env) retried(t *testing.T, savepoints bool, do func(kmssqlx.Ext) error) {
	t.Helper()
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	defer func() { tx.Rollback() }()
	if !savepoints {
		must(t, do(tx))
		must(t, tx.Rollback())
		tx, err = e.db.BeginTxx(t.Context(), nil)
		must(t, err)
	} else {
		tx.MustExec("SAVEPOINT a")
		must(t, do(tx))
		tx.MustExec("ROLLBACK TO SAVEPOINT a")
	}
	must(t, do(tx))
	must(t, tx.Commit())
}

// eachRetry runs a test with and without savepoints.
func eachRetry(t *testing.T, test func(t *testing.T, savepoints bool)) {
	t.Run("Transaction", func(t *testing.T) { test(t, false) })
	t.Run("Savepoint", func(t *testing.T) { test(t, true) })
}

// The end of a transaction is the program's to know: an Update that is repeated
// with the same struct writes again.
func retryUpdate(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 2)
	n := 0
	eachRetry(t, func(t *testing.T, savepoints bool) {
		c := s.get(t, all[n].ID)
		n++
		c.Email.Set(email(10))
		e.retried(t, savepoints, func(db kmssqlx.Ext) error { return kmssqlx.Update(t.Context(), db, s.Model, &c) })
		if got := s.get(t, c.ID).Email.Must(); got != email(10) {
			t.Errorf("after a retry the row holds %s", got)
		}
		// An update of another field starts from the committed state.
		c.Phone.Set(new("phone@" + secret))
		must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &c))
		got := s.get(t, c.ID)
		if got.Email.Must() != email(10) || got.Phone.IsNull() {
			t.Error("after a retry and another update something is lost")
		}
		// What is confirmed is not sent again.
		db := e.recorder()
		must(t, kmssqlx.Update(t.Context(), db, s.Model, &c))
		if len(db.sent) != 0 {
			t.Errorf("an update that was committed sends %q", db.sent)
		}
	})
	// Several changes in one transaction, and a rollback to the one in the middle.
	c := s.get(t, all[0].ID)
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	defer tx.Rollback()
	for i := range 3 {
		c.Email.Set(email(20 + i))
		must(t, kmssqlx.Update(t.Context(), tx, s.Model, &c))
		if i == 1 {
			tx.MustExec("SAVEPOINT middle")
		}
	}
	tx.MustExec("ROLLBACK TO SAVEPOINT middle")
	must(t, kmssqlx.Update(t.Context(), tx, s.Model, &c))
	must(t, tx.Commit())
	if got := s.get(t, c.ID).Email.Must(); got != email(22) {
		t.Errorf("after a rollback to the middle the row holds %s", got)
	}
}

func retryFirstKey(t *testing.T, e *env) {
	s := e.customers(t)
	n := 0
	eachRetry(t, func(t *testing.T, savepoints bool) {
		n++
		c := customer{Name: string(rune('a' + n))}
		must(t, kmssqlx.Insert(t.Context(), e.db, s.Model, &c))
		c = s.get(t, c.ID)
		c.Email.Set(email(1))
		e.retried(t, savepoints, func(db kmssqlx.Ext) error { return kmssqlx.Update(t.Context(), db, s.Model, &c) })
		c.Phone.Set(new("phone@" + secret))
		must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &c))
		if got := s.get(t, c.ID); got.Email.Must() != email(1) || got.Phone.IsNull() {
			t.Error("the first key was lost")
		}
	})
	// The key is rolled back, and only another column is written afterwards.
	c := customer{Name: "other"}
	must(t, kmssqlx.Insert(t.Context(), e.db, s.Model, &c))
	c = s.get(t, c.ID)
	c.Email.Set(email(2))
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	must(t, kmssqlx.Update(t.Context(), tx, s.Model, &c))
	must(t, tx.Rollback())
	c.Phone.Set(new("phone@" + secret))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &c))
	if got := s.get(t, c.ID); got.Email.Must() != email(2) || got.Phone.IsNull() {
		t.Error("a column without its key, or lost")
	}
}

func retryRekey(t *testing.T, e *env) {
	old, current := versions(t, e)
	all := old.insert(t, 2)
	n := 0
	eachRetry(t, func(t *testing.T, savepoints bool) {
		c := old.get(t, all[n].ID)
		e.retried(t, savepoints, func(db kmssqlx.Ext) error { return kmssqlx.Rekey(t.Context(), db, current.Model, &c) })
		got := current.get(t, c.ID)
		if v, _ := got.Key.Version(); v != 2 || got.Email.Must() != email(n) {
			t.Errorf("after a retried rekey: version %d", v)
		}
		c.Email.Set(email(5))
		must(t, kmssqlx.Update(t.Context(), e.db, current.Model, &c))
		if got := current.get(t, c.ID); got.Email.Must() != email(5) {
			t.Error("the update after a retried rekey was lost")
		}
		n++
	})
}

// An id that the database assigned and rolled back may belong to another row now.
func retryInsert(t *testing.T, e *env) {
	for _, id := range []string{e.id, e.otherID} {
		e.id, e.table = id, e.table+"x"
		s := e.customers(t)
		n := 0
		eachRetry(t, func(t *testing.T, savepoints bool) {
			n++
			c := customer{Name: string(rune('a' + n)), Email: field.New(email(n))}
			first, between := true, customer{Name: string(rune('k' + n)), Email: field.New(email(10 * n))}
			e.retried(t, savepoints, func(db kmssqlx.Ext) error {
				if !first { // somebody takes the id that was given back
					if err := kmssqlx.Insert(t.Context(), db, s.Model, &between); err != nil {
						return err
					}
				}
				first = false
				return kmssqlx.Insert(t.Context(), db, s.Model, &c)
			})
			if s.get(t, c.ID).Email.Must() != email(n) || s.get(t, between.ID).Email.Must() != email(10*n) {
				t.Error("a repeated insert wrote something else")
			}
			c.Phone.Set(new("phone@" + secret))
			must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &c))
			if got := s.get(t, c.ID); got.Email.Must() != email(n) || got.Phone.IsNull() {
				t.Error("an update after a repeated insert was lost")
			}
		})
		// A program's own id stays.
		c := customer{ID: 4711, Name: "own", Email: field.New(email(3))}
		e.retried(t, false, func(db kmssqlx.Ext) error { return kmssqlx.Insert(t.Context(), db, s.Model, &c) })
		if c.ID != 4711 || s.get(t, 4711).Email.Must() != email(3) {
			t.Errorf("a record with an id of its own became %d", c.ID)
		}
	}
}

// What a record sends again reverts nothing that somebody else wrote after the commit.
func resendRevertsNothing(t *testing.T, e *env) {
	s := e.customers(t)
	c := s.insert(t, 1)[0]
	c = s.get(t, c.ID)
	inTx := func(do func(*sqlx.Tx)) {
		t.Helper()
		tx, err := e.db.BeginTxx(t.Context(), nil)
		must(t, err)
		do(tx)
		must(t, tx.Commit())
	}
	c.Email.Set(email(1))
	inTx(func(tx *sqlx.Tx) { must(t, kmssqlx.Update(t.Context(), tx, s.Model, &c)) })
	other := s.get(t, c.ID)
	other.Email.Set(email(2))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &other))
	c.Phone.Set(new("phone@" + secret))
	wantError(t, "an update that would send an old value again", kmssqlx.Update(t.Context(), e.db, s.Model, &c), kmsencrypted.ErrConflict)
	if got := s.get(t, c.ID); got.Email.Must() != email(2) || !got.Phone.IsNull() {
		t.Error("a resend reverted what somebody else wrote")
	}
	// A rewrap between does not hold it up.
	c = s.get(t, c.ID)
	c.Email.Set(email(3))
	inTx(func(tx *sqlx.Tx) { must(t, kmssqlx.Update(t.Context(), tx, s.Model, &c)) })
	other = s.get(t, c.ID)
	must(t, kmssqlx.Rewrap(t.Context(), e.db, s.Model, &other))
	c.Phone.Set(new("phone@" + secret))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &c))
	if got := s.get(t, c.ID); got.Email.Must() != email(3) || got.Phone.IsNull() {
		t.Error("an update after a rewrap was lost")
	}
}
