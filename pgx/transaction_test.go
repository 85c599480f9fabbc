package kmspgx_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
)

// wrapped is a handle of the program's own.
type wrapped struct{ *pgxpool.Pool }

// hidden is one that does not show what it is.
type hidden struct{ kmspgx.DB }

// begun is a way to have a database, and to be in a transaction with it.
type begun struct {
	name     string
	db       kmspgx.DB
	commit   func() error // nil: each statement is committed
	rollback func() error
}

// handles are all of them. The caller must call commit or rollback of each.
func (e *env) handles(t *testing.T) []begun {
	t.Helper()
	ctx := t.Context()
	acquire := func() *pgxpool.Conn {
		conn, err := e.db.Acquire(ctx)
		must(t, err)
		t.Cleanup(conn.Release)
		return conn
	}
	pooled, idle, own := acquire(), acquire(), acquire()
	poolTx, err := e.db.Begin(ctx)
	must(t, err)
	connTx, err := acquire().Conn().Begin(ctx)
	must(t, err)
	outer, err := e.db.Begin(ctx)
	must(t, err)
	nested, err := outer.Begin(ctx)
	must(t, err)
	_, err = own.Exec(ctx, "BEGIN") // of which pgx knows nothing
	must(t, err)
	end := func(statement string) func() error {
		return func() error { _, err := own.Exec(ctx, statement); return err }
	}
	of := func(f func(context.Context) error) func() error { return func() error { return f(ctx) } }
	return []begun{
		{"pool", e.db, nil, nil},
		{"own type", wrapped{e.db}, nil, nil},
		{"hidden pool", hidden{e.db}, nil, nil},
		{"pool's connection", pooled, nil, nil},
		{"connection", idle.Conn(), nil, nil},
		{"pool's transaction", poolTx, of(poolTx.Commit), of(poolTx.Rollback)},
		{"connection's transaction", connTx, of(connTx.Commit), of(connTx.Rollback)},
		{"nested transaction", nested, of(outer.Commit), func() error { _ = nested.Rollback(ctx); return outer.Rollback(ctx) }},
		{"transaction by hand", own.Conn(), end("COMMIT"), end("ROLLBACK")},
	}
}

// Every handle serves all operations; nothing is committed that the program did not
// commit.
func handles(t *testing.T, e *env) {
	s := e.customers(t)
	ctx := t.Context()
	write := func(h begun) customer {
		t.Helper()
		all := newCustomers(3)
		for i := range all {
			all[i].Name = fmt.Sprint(h.name, i)
		}
		must(t, kmspgx.Insert(ctx, h.db, s.Model, &all[0]))
		must(t, kmspgx.CopyFrom(ctx, h.db, s.Model, &all[1]))
		var b kmspgx.Batch
		all[0].Email.Set(email(7))
		kmspgx.QueueInsert(&b, s.Model, &all[2])
		kmspgx.QueueUpdate(&b, s.Model, &all[0])
		must(t, b.Send(ctx, h.db))
		rows, _ := kmspgx.Query(ctx, h.db, "SELECT * FROM "+e.table+" WHERE id = $1", all[0].ID)
		c, err := kmspgx.CollectOneRow(ctx, rows, s.Model)
		must(t, err)
		must(t, kmspgx.Rekey(ctx, h.db, s.Model, &c))
		must(t, kmspgx.Rewrap(ctx, h.db, s.Model, &c))
		must(t, kmspgx.Delete(ctx, h.db, s.Model, &all[1]))
		return c
	}
	for _, h := range e.handles(t) {
		c := write(h)
		if h.rollback != nil {
			must(t, h.rollback())
			if n := s.count(t); n != 0 {
				t.Errorf("%s: %d rows are there after a rollback", h.name, n)
			}
			continue
		}
		if got := s.get(t, c.ID); got.Email.Must() != email(7) || s.count(t) != 2 {
			t.Errorf("%s: another value, or %d rows", h.name, s.count(t))
		}
		e.exec(t, "DELETE FROM "+e.table)
	}
	for _, h := range e.handles(t) {
		if h.commit == nil {
			continue
		}
		c := write(h)
		must(t, h.commit())
		if got := s.get(t, c.ID); got.Email.Must() != email(7) {
			t.Errorf("%s: the transaction was lost", h.name)
		}
		e.exec(t, "DELETE FROM "+e.table)
	}
}

// After a rollback the same calls with the same records write the same again.
func rollback(t *testing.T, e *env) {
	s := e.customers(t)
	ctx := t.Context()
	for _, h := range e.handles(t) {
		kept := customer{Name: h.name + " kept", Email: field.New(email(0))}
		must(t, kmspgx.Insert(ctx, e.db, s.Model, &kept))
		all := newCustomers(3)
		for i := range all {
			all[i].Name = fmt.Sprint(h.name, i)
		}
		kept.Email.Set(email(7))
		unit := func(db kmspgx.DB) error {
			var b kmspgx.Batch
			kmspgx.QueueInsert(&b, s.Model, &all[2])
			kmspgx.QueueUpdate(&b, s.Model, &kept)
			if err := kmspgx.Insert(ctx, db, s.Model, &all[0]); err != nil {
				return err
			}
			if err := kmspgx.CopyFrom(ctx, db, s.Model, &all[1]); err != nil {
				return err
			}
			return b.Send(ctx, db)
		}
		if h.rollback == nil {
			continue
		}
		must(t, unit(h.db))
		must(t, h.rollback())
		if got := s.get(t, kept.ID); got.Email.Must() != email(0) {
			t.Errorf("%s: a rollback left something behind", h.name)
		}
		lost := all[0].ID
		must(t, unit(e.db))
		if all[0].ID == lost {
			t.Errorf("%s: an id of a rolled back row was used again", h.name)
		}
		for i, c := range all {
			if s.get(t, c.ID).Email.Must() != email(i) {
				t.Errorf("%s: record %d after a retry", h.name, i)
			}
		}
		if s.get(t, kept.ID).Email.Must() != email(7) {
			t.Errorf("%s: an update was lost by a rollback", h.name)
		}
	}
}

// An operation of several statements that fails leaves the transaction usable and
// nothing of itself.
func savepointKeepsTheRest(t *testing.T, e *env) {
	s := e.customers(t)
	for _, h := range e.handles(t) {
		if h.commit == nil {
			continue
		}
		first := customer{Name: h.name, Email: field.New(email(0))}
		must(t, kmspgx.Insert(t.Context(), h.db, s.Model, &first))
		twice := []customer{{Name: h.name + " second", Email: field.New(email(1))}, {Name: h.name, Email: field.New(email(2))}}
		var b kmspgx.Batch
		kmspgx.QueueInsert(&b, s.Model, field.Pointers(twice)...)
		wantError(t, "a unique violation", b.Send(t.Context(), h.db))
		denied := func(context.Context) error { return kmsencrypted.ErrDenied }
		s.kms.Set(kmstest.Before(denied))
		wantError(t, "without permission", kmspgx.CopyFrom(t.Context(), h.db, s.Model, &twice[0]), kmsencrypted.ErrDenied)
		s.kms.Set()
		must(t, kmspgx.Insert(t.Context(), h.db, s.Model, &twice[0]))
		must(t, h.commit())
		if s.get(t, first.ID).Email.Must() != email(0) || s.get(t, twice[0].ID).Email.Must() != email(1) || s.count(t) != 2 {
			t.Errorf("%s: %d rows after a failure inside the transaction", h.name, s.count(t))
		}
		e.exec(t, "DELETE FROM "+e.table)
	}
}

var _ = []kmspgx.DB{(*pgxpool.Pool)(nil), (*pgxpool.Conn)(nil), (*pgx.Conn)(nil), pgx.Tx(nil), (*pgxpool.Tx)(nil)}
