package kmssqlx_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func transactions(t *testing.T, e *env) {
	s := e.customers(t)
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	defer tx.Rollback()
	c := customer{Name: "Ada", Email: field.New(email(0))}
	must(t, kmssqlx.Insert(t.Context(), tx, s.Model, &c))
	c.Email.Set(email(1))
	must(t, kmssqlx.Update(t.Context(), tx, s.Model, &c))
	var read customer
	must(t, kmssqlx.Get(t.Context(), tx, s.Model, &read, "SELECT * FROM "+e.table+" WHERE id = ?", c.ID))
	must(t, kmssqlx.Rekey(t.Context(), tx, s.Model, &read))
	must(t, tx.Commit())
	if got := s.get(t, c.ID); got.Email.Must() != email(1) {
		t.Error("the transaction was lost")
	}
}

// A transaction that sees the row as it was when it began still learns that
// somebody rewrapped its key.
func updateInOldSnapshot(t *testing.T, e *env) {
	if e.name == "SQLite" {
		return // nobody else writes while a transaction does
	}
	old, current := versions(t, e)
	id := old.insert(t, 1)[0].ID
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	defer tx.Rollback()
	var c customer
	must(t, kmssqlx.Get(t.Context(), tx, old.Model, &c, "SELECT * FROM "+e.table+" WHERE id = ?", id))
	theirs := old.get(t, id)
	must(t, kmssqlx.Rewrap(t.Context(), e.db, current.Model, &theirs))
	c.Email.Set(email(1))
	must(t, kmssqlx.Update(t.Context(), tx, old.Model, &c))
	must(t, tx.Commit())
	got := old.get(t, id)
	if v, _ := got.Key.Version(); v != 2 || got.Email.Must() != email(1) {
		t.Errorf("after a rewrap beside a transaction: version %d", v)
	}
}

// After a rollback the records in memory are ahead of the database: read them
// again. Inserting them again needs nothing.
func rollback(t *testing.T, e *env) {
	s := e.customers(t)
	kept := s.insert(t, 1)[0]
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	c := customer{Name: "Ada", Email: field.New(email(1))}
	must(t, kmssqlx.Insert(t.Context(), tx, s.Model, &c))
	kept.Email.Set(email(2))
	must(t, kmssqlx.Update(t.Context(), tx, s.Model, &kept))
	must(t, tx.Rollback())
	if s.count(t) != 1 || s.get(t, kept.ID).Email.Must() != email(0) {
		t.Error("a rollback left something behind")
	}
	must(t, kmssqlx.Insert(t.Context(), e.db, s.Model, &c))
	if s.get(t, c.ID).Email.Must() != email(1) {
		t.Error("insert after a rollback")
	}
	kept = s.get(t, kept.ID)
	kept.Email.Set(email(2))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &kept))
	if s.get(t, kept.ID).Email.Must() != email(2) {
		t.Error("update after a rollback")
	}

	// Sealed in a transaction that was rolled back, and never written.
	tx, err = e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	kept.Email.Set(email(3))
	must(t, s.Seal(t.Context(), &kept))
	must(t, tx.Rollback())
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &kept))
	if s.get(t, kept.ID).Email.Must() != email(3) {
		t.Error("what was sealed and not written was forgotten")
	}
}

// An insert of several statements that fails leaves the transaction usable and
// nothing of itself.
func savepointKeepsTheRest(t *testing.T, e *env) {
	e.id = e.otherID
	s := e.customers(t)
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	defer tx.Rollback()
	tx.MustExec("INSERT INTO " + e.table + " (name) VALUES ('first')")
	denied := func(context.Context) error { return kmsencrypted.ErrDenied }
	s.kms.Set(kmstest.Before(denied))
	c := customer{Name: "Ada", Email: field.New(email(0))}
	wantError(t, "insert without permission", kmssqlx.Insert(t.Context(), tx, s.Model, &c), kmsencrypted.ErrDenied)
	ctx, cancel := context.WithCancel(t.Context())
	ends := func(context.Context) error { cancel(); return nil }
	s.kms.Set(kmstest.Before(ends))
	wantError(t, "context ends inside an insert", kmssqlx.Insert(ctx, tx, s.Model, &c), context.Canceled)
	s.kms.Set()
	c.Name = "first" // is there already
	wantError(t, "unique violation in a transaction", kmssqlx.Insert(t.Context(), tx, s.Model, &c))
	c.Name = "second"
	must(t, kmssqlx.Insert(t.Context(), tx, s.Model, &c))
	must(t, tx.Commit())
	if s.count(t) != 2 || s.get(t, c.ID).Email.Must() != email(0) {
		t.Errorf("%d rows after a failure inside a transaction, want 2", s.count(t))
	}
}

// Two transactions lock two rows in opposite order. The one that the database
// gives up is repeated from its reads on.
func deadlock(t *testing.T, e *env) {
	if e.name == "SQLite" {
		sqliteBusy(t, e)
		return
	}
	s := e.customers(t)
	all := s.insert(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	firstDone := make(chan struct{}, 2)
	bothLocked := make(chan struct{})
	transfer := func(from, to int64, n int) (attempts int, err error) {
		for attempts = 1; ; attempts++ {
			err = func() error {
				tx, err := e.db.BeginTxx(ctx, nil)
				if err != nil {
					return err
				}
				defer tx.Rollback()
				for i, id := range []int64{from, to} {
					var c customer
					if err := kmssqlx.Get(ctx, tx, s.Model, &c, "SELECT * FROM "+e.table+" WHERE id = ?", id); err != nil {
						return err
					}
					c.Email.Set(email(n))
					if err := kmssqlx.Update(ctx, tx, s.Model, &c); err != nil {
						return err
					}
					if i == 0 && attempts == 1 {
						firstDone <- struct{}{}
						select {
						case <-bothLocked:
						case <-ctx.Done():
						}
					}
				}
				return tx.Commit()
			}()
			if err == nil || ctx.Err() != nil || attempts == 5 {
				return attempts, err
			}
			wantError(t, "deadlock", err)
			if text := strings.ToLower(err.Error()); !strings.Contains(text, "deadlock") {
				return attempts, err
			}
		}
	}
	type outcome struct {
		attempts int
		err      error
	}
	outcomes := make(chan outcome, 2)
	for n, ids := range [][2]int64{{all[0].ID, all[1].ID}, {all[1].ID, all[0].ID}} {
		go func() {
			attempts, err := transfer(ids[0], ids[1], 10+n)
			outcomes <- outcome{attempts, err}
		}()
	}
	for range 2 {
		select {
		case <-firstDone:
		case <-ctx.Done():
		}
	}
	close(bothLocked)
	one, other := <-outcomes, <-outcomes
	must(t, errors.Join(one.err, other.err))
	if one.attempts+other.attempts < 3 {
		t.Error("there was no deadlock to repeat after")
	}
	a, b := s.get(t, all[0].ID), s.get(t, all[1].ID)
	if a.Email.Must() != b.Email.Must() || a.Email.Must() == email(0) {
		t.Error("a transaction was written in half")
	}
}

// SQLite has one writer; a statement that waits too long for it fails and can be tried again.
func sqliteBusy(t *testing.T, e *env) {
	s := e.customers(t)
	c := s.insert(t, 1)[0]
	tx, err := e.db.BeginTxx(t.Context(), nil) // takes the write lock: _txlock=immediate
	must(t, err)
	defer tx.Rollback()
	conn, err := e.db.Connx(t.Context())
	must(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), "PRAGMA busy_timeout = 1")
	must(t, err)
	c.Email.Set(email(1))
	wantError(t, "update beside another writer", kmssqlx.Update(t.Context(), conn, s.Model, &c))
	must(t, tx.Rollback())
	must(t, kmssqlx.Update(t.Context(), conn, s.Model, &c))
	if s.get(t, c.ID).Email.Must() != email(1) {
		t.Error("the repeated update was lost")
	}
	_, err = conn.ExecContext(t.Context(), "PRAGMA busy_timeout = 20000")
	must(t, err)
}

// The server drops the connection while the key service is called between the
// INSERT and the UPDATE of an insert: no half-written row, no plaintext in the
// error, and the same records can be inserted again.
func connectionLost(t *testing.T, e *env) {
	if e.name == "SQLite" {
		return // there is no connection to lose
	}
	e.id = e.otherID
	s := e.customers(t)
	all := []customer{{Name: "Ada", Email: field.New(email(0))}, {Name: "Grace", Email: field.New(email(1))}}
	drop := func(context.Context) error { return e.dropConnections(t) }
	s.kms.Set(kmstest.Before(drop))
	err := kmssqlx.Insert(t.Context(), e.db, s.Model, field.Pointers(all)...)
	s.kms.Set()
	wantError(t, "insert over a lost connection", err)
	if n := s.count(t); n != 0 || all[0].ID != 0 || all[1].ID != 0 {
		t.Errorf("after a lost connection: %d rows, ids %d and %d", n, all[0].ID, all[1].ID)
	}
	must(t, kmssqlx.Insert(t.Context(), e.db, s.Model, field.Pointers(all)...))
	c := s.get(t, all[1].ID)
	if c.Email.Must() != email(1) {
		t.Error("the repeated insert wrote another value")
	}

	// In a transaction of the program's everything in it is gone.
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	defer tx.Rollback()
	c.Email.Set(email(2))
	must(t, kmssqlx.Update(t.Context(), tx, s.Model, &c))
	must(t, e.dropConnections(t))
	c.Phone.Set(new("phone@" + secret))
	wantError(t, "update over a lost connection", kmssqlx.Update(t.Context(), tx, s.Model, &c))
	if tx.Commit() == nil {
		t.Error("a transaction without a connection was committed")
	}
	if got := s.get(t, c.ID); got.Email.Must() != email(1) || !got.Phone.IsNull() {
		t.Error("a transaction was written in half")
	}
}

// dropConnections makes the server end every other connection to the database.
// The pool forgets those that lay idle: each of them would fail once.
func (e *env) dropConnections(t *testing.T) error {
	e.db.SetMaxIdleConns(0)
	const byDefault = 2
	defer e.db.SetMaxIdleConns(byDefault)
	conn, err := e.db.Connx(t.Context())
	if err != nil {
		return err
	}
	defer conn.Close()
	if e.name == "Postgres" {
		_, err := conn.ExecContext(t.Context(), "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		return err
	}
	var ids []int64
	if err := conn.SelectContext(t.Context(), &ids, "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"); err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := conn.ExecContext(t.Context(), fmt.Sprint("KILL ", id)); err != nil && !strings.Contains(err.Error(), "1094") { // gone already
			return err
		}
	}
	return nil
}

// wrapped is a handle of the program's own.
type wrapped struct{ *sqlx.DB }

// Every handle of sqlx serves, and finds out the database by itself.
func handles(t *testing.T, e *env) {
	s := e.customers(t)
	conn, err := e.db.Connx(t.Context())
	must(t, err)
	defer conn.Close()
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	defer tx.Rollback()
	unknown := sqlx.NewDb(e.db.DB, "a driver that nobody knows")
	for _, db := range []kmssqlx.Ext{tx, conn, e.db, wrapped{e.db}, unknown, e.db.Unsafe()} {
		c := customer{Name: strings.Repeat("x", s.countWith(t, db)+1), Email: field.New(email(0))}
		must(t, kmssqlx.Insert(t.Context(), db, s.Model, &c))
		c.Email.Set(email(1))
		must(t, kmssqlx.Update(t.Context(), db, s.Model, &c, "*"))
		must(t, kmssqlx.Get(t.Context(), db, s.Model, &c, fmt.Sprintf("SELECT * FROM %s WHERE id = %d", e.table, c.ID)))
		must(t, kmssqlx.Rekey(t.Context(), db, s.Model, &c))
		if c.Email.Must() != email(1) {
			t.Errorf("%T: another value", db)
		}
		if db == kmssqlx.Ext(tx) {
			must(t, tx.Commit())
		}
	}
}

func (s store) countWith(t *testing.T, db kmssqlx.Ext) (n int) {
	t.Helper()
	must(t, sqlx.GetContext(t.Context(), db, &n, "SELECT count(*) FROM "+s.table))
	return n
}
