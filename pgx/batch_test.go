package kmspgx_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
)

func copyRows(t *testing.T, e *env) {
	s := e.customers(t)
	all := newCustomers(3)
	all[1].Phone = field.New(new("phone@" + secret))
	all[2].ID = 4711
	wraps, unwraps := calls(s.kms, func() { must(t, kmspgx.CopyFrom(t.Context(), e.db, s.Model, field.Pointers(all)...)) })
	if wraps != 3 || unwraps != 0 {
		t.Errorf("CopyFrom of 3: %d and %d calls", wraps, unwraps)
	}
	for i, c := range all {
		if got := s.get(t, c.ID); got.Email.Must() != email(i) || got.Shout != fmt.Sprint("NAME", i) {
			t.Errorf("record %d: %+v", i, got)
		}
	}
	// They can be updated at once.
	all[0].Email.Set(email(7))
	must(t, kmspgx.Update(t.Context(), e.db, s.Model, &all[0]))
	// All or none, and again.
	more := newCustomers(2)
	wantError(t, "a unique violation", kmspgx.CopyFrom(t.Context(), e.db, s.Model, field.Pointers(more)...))
	if s.count(t) != 3 || more[0].ID != 0 {
		t.Errorf("after a failure: %d rows, id %d", s.count(t), more[0].ID)
	}
	more[0].Name, more[1].Name = "Ada", "Grace"
	must(t, kmspgx.CopyFrom(t.Context(), e.db, s.Model, field.Pointers(more)...))
	if s.get(t, more[1].ID).Email.Must() != email(1) {
		t.Error("the repeated copy")
	}
	// A table in a schema, with a name that needs quotes.
	e.exec(t, `CREATE SCHEMA "Billing `+e.table+`"`)
	own := &env{e.db, `Billing ` + e.table + `.Order`}
	m := model[returnless](t, own, oneKey())
	e.exec(t, `CREATE TABLE "Billing `+e.table+`"."Order" (`+identity+`, encrypted_kms_key text, email_ciphertext text)`)
	o := returnless{Email: field.New(email(0))}
	must(t, kmspgx.CopyFrom(t.Context(), e.db, m, &o))
	if o.ID == 0 {
		t.Error("no id from a sequence in a schema")
	}
}

type returnless struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// COPY returns no ids.
func copyNeedsIDs(t *testing.T, e *env) {
	m := e.returned(t)
	c := returned{Name: "Ada", Email: field.New(email(0))}
	wantError(t, "CopyFrom without an id", kmspgx.CopyFrom(t.Context(), e.db, m, &c), kmsencrypted.ErrNoID)
	c.ID = 7
	must(t, kmspgx.CopyFrom(t.Context(), e.db, m, &c))
	if got := one(t, e, m, 7); got.Email.Must() != email(0) {
		t.Error("CopyFrom with an id")
	}
}

// Records of two models, with ids that are fetched, given and returned, and a
// statement of the program's own.
func batchOfModels(t *testing.T, e *env) {
	s := e.customers(t)
	kept := s.insert(t, 2)
	other := &env{e.db, e.table + "_returned"}
	m := other.returned(t)
	all := newCustomers(4)[2:]
	all[1].ID = 4711
	late := returned{Name: "Ada", Email: field.New(email(5))}
	kept[1].Email.Set(email(6))
	kept[1].Name = "renamed"
	var b kmspgx.Batch
	kmspgx.QueueInsert(&b, s.Model, field.Pointers(all)...)
	kmspgx.QueueInsert(&b, m, &late)
	kmspgx.QueueUpdate(&b, s.Model, &kept[1], "name")
	var n int64
	b.Queue("UPDATE "+e.table+" SET status = $1 WHERE name = $2", "seen", "name0").Exec(func(tag pgconn.CommandTag) error {
		n = tag.RowsAffected()
		return nil
	})
	must(t, b.Send(t.Context(), e.db))
	for i, c := range all {
		if got := s.get(t, c.ID); got.Email.Must() != email(i+2) {
			t.Errorf("record %d: %+v", i, got)
		}
	}
	if got := one(t, other, m, late.ID); got.Email.Must() != email(5) {
		t.Error("a record whose id was returned")
	}
	if got := s.get(t, kept[1].ID); got.Email.Must() != email(6) || got.Name != "renamed" {
		t.Error("the update")
	}
	if got := s.get(t, kept[0].ID); n != 1 || *got.Status != "seen" {
		t.Errorf("the program's own statement changed %d rows", n)
	}
}

// One part fails: nothing of the batch is there, and the records know what they
// still have to write.
func batchAllOrNone(t *testing.T, e *env) {
	old, current := versions(t, e)
	kept := old.insert(t, 2)
	stale := old.get(t, kept[0].ID)
	theirs := old.get(t, kept[0].ID)
	must(t, kmspgx.Rekey(t.Context(), e.db, current.Model, &theirs))
	failures := map[string]func(b *kmspgx.Batch) error{
		"conflict": func(b *kmspgx.Batch) error {
			stale.Email.Set(email(8))
			kmspgx.QueueUpdate(b, old.Model, &stale)
			return kmsencrypted.ErrConflict
		},
		"unique violation": func(b *kmspgx.Batch) error {
			kmspgx.QueueInsert(b, old.Model, &customer{Name: "name0", Email: field.New(email(8))})
			return nil
		},
		"statement": func(b *kmspgx.Batch) error {
			b.Queue("SELECT 1 / 0")
			return nil
		},
		"callback": func(b *kmspgx.Batch) error {
			refusal := errors.New("refused")
			b.Queue("SELECT 1").QueryRow(func(pgx.Row) error { return refusal })
			return refusal
		},
		"argument": func(b *kmspgx.Batch) error {
			b.Queue("SELECT $1::int", struct{ Mail string }{email(1)})
			return nil
		},
		"row that is gone": func(b *kmspgx.Batch) error {
			gone := old.get(t, kept[1].ID)
			gone.ID = 99
			gone.Name = "gone"
			kmspgx.QueueUpdate(b, old.Model, &gone, "name")
			return pgx.ErrNoRows
		},
	}
	fresh, mine := customer{Name: "fresh", Email: field.New(email(3))}, old.get(t, kept[1].ID)
	mine.Email.Set(email(4))
	for what, add := range failures {
		var b kmspgx.Batch
		kmspgx.QueueInsert(&b, old.Model, &fresh)
		kmspgx.QueueUpdate(&b, old.Model, &mine)
		want := add(&b)
		err := b.Send(t.Context(), e.db)
		wantError(t, what, err)
		if want != nil {
			wantError(t, what, err, want)
		}
		if old.count(t) != 2 || fresh.ID != 0 || old.get(t, mine.ID).Email.Must() != email(1) {
			t.Errorf("%s: something was written: %d rows, id %d", what, old.count(t), fresh.ID)
		}
	}
	var b kmspgx.Batch
	kmspgx.QueueInsert(&b, old.Model, &fresh)
	kmspgx.QueueUpdate(&b, old.Model, &mine)
	must(t, b.Send(t.Context(), e.db))
	if old.get(t, fresh.ID).Email.Must() != email(3) || old.get(t, mine.ID).Email.Must() != email(4) {
		t.Error("the repeated batch")
	}
}

// Updates that match, that were rewrapped meanwhile, that give a first key and that
// have nothing to write.
func batchOfUpdates(t *testing.T, e *env) {
	old, current := versions(t, e)
	all := old.insert(t, 3)
	empty := customer{Name: "empty"}
	must(t, kmspgx.Insert(t.Context(), e.db, old.Model, &empty))
	list := collect(t, e, old.Model, "ORDER BY id")
	theirs := old.get(t, all[1].ID)
	must(t, kmspgx.Rewrap(t.Context(), e.db, current.Model, &theirs))
	list[0].Email.Set(email(10))
	list[1].Email.Set(email(11))
	list[3].Email.Set(email(13))
	var b kmspgx.Batch
	for i := range list {
		kmspgx.QueueUpdate(&b, old.Model, &list[i])
	}
	must(t, b.Send(t.Context(), e.db))
	read := collect(t, e, current.Model, "ORDER BY id")
	for i, want := range []string{email(10), email(11), email(2), email(13)} {
		if read[i].Email.Must() != want {
			t.Errorf("record %d", i)
		}
	}
	if v, _ := read[1].Key.Version(); v != 2 {
		t.Error("the update undid a rewrap")
	}
}

func batchMisused(t *testing.T, e *env) {
	s := e.customers(t)
	c := s.insert(t, 1)[0]
	for what, add := range map[string]func(b *kmspgx.Batch){
		"a record twice": func(b *kmspgx.Batch) {
			kmspgx.QueueUpdate(b, s.Model, &c)
			kmspgx.QueueUpdate(b, s.Model, &c, "name")
		},
		"a column that is none": func(b *kmspgx.Batch) { kmspgx.QueueUpdate(b, s.Model, &c, "nonsense") },
		"sent before": func(b *kmspgx.Batch) {
			b.Queue("SELECT 1")
			must(t, b.Send(t.Context(), e.db))
		},
	} {
		var b kmspgx.Batch
		add(&b)
		wantError(t, what, b.Send(t.Context(), e.db), kmsencrypted.ErrConfig)
	}
	var nothing kmspgx.Batch
	kmspgx.QueueInsert(&nothing, s.Model)
	must(t, nothing.Send(t.Context(), e.db))
}

// A thousand records by each way, and back.
func bulk(t *testing.T, e *env) {
	const n = 1000
	s := e.customers(t)
	ways := map[string]func(rows []*customer) error{
		"Insert":   func(rows []*customer) error { return kmspgx.Insert(t.Context(), e.db, s.Model, rows...) },
		"CopyFrom": func(rows []*customer) error { return kmspgx.CopyFrom(t.Context(), e.db, s.Model, rows...) },
		"Batch": func(rows []*customer) error {
			var b kmspgx.Batch
			for _, row := range rows {
				kmspgx.QueueInsert(&b, s.Model, row)
			}
			return b.Send(t.Context(), e.db)
		},
	}
	for what, write := range ways {
		all := newCustomers(n)
		wraps, _ := calls(s.kms, func() { must(t, write(field.Pointers(all))) })
		read := collect(t, e, s.Model, "ORDER BY id")
		if wraps != n || len(read) != n {
			t.Fatalf("%s: %d calls, %d rows", what, wraps, len(read))
		}
		ids := make(map[int64]string)
		for _, c := range all {
			ids[c.ID] = c.Email.Must()
		}
		for i := range read {
			if read[i].Email.Must() != ids[read[i].ID] {
				t.Fatalf("%s: record %d holds another value", what, read[i].ID)
			}
			read[i].Email.Set(strings.ToUpper(read[i].Email.Must()))
		}
		var b kmspgx.Batch
		for i := range read {
			kmspgx.QueueUpdate(&b, s.Model, &read[i])
		}
		must(t, b.Send(t.Context(), e.db))
		for _, c := range collect(t, e, s.Model, "") {
			if c.Email.Must() != strings.ToUpper(ids[c.ID]) {
				t.Fatalf("%s: the update of %d", what, c.ID)
			}
		}
		e.exec(t, "DELETE FROM "+e.table)
	}
}

// copyNamesTheRow: PostgreSQL says which line it refuses, and so which record that was.
func copyNamesTheRow(t *testing.T, e *env) {
	s := e.customers(t)
	for at, change := range map[int]func(*customer){
		7:  func(c *customer) { c.Name = "name3" },                        // which is unique
		11: func(c *customer) { c.Status = new(strings.Repeat("x", 21)) }, // longer than its column
	} {
		all := newCustomers(40)
		all[30].ID = 5000 // goes before the others
		change(&all[at])
		err := kmspgx.CopyFrom(t.Context(), e.db, s.Model, field.Pointers(all)...)
		failures, ok := errors.AsType[field.Failures](err)
		if !ok || len(failures) != 1 || failures[0].Index != at {
			t.Errorf("%v, want the record at index %d", err, at)
		}
		wantError(t, "CopyFrom", err)
	}
	if n := s.count(t); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// listedTwice: one record becomes one row.
func listedTwice(t *testing.T, e *env) {
	s := e.customers(t)
	c, other := &newCustomers(1)[0], &newCustomers(2)[1]
	for name, insert := range map[string]func(...*customer) error{
		"Insert":   func(rows ...*customer) error { return kmspgx.Insert(t.Context(), e.db, s.Model, rows...) },
		"CopyFrom": func(rows ...*customer) error { return kmspgx.CopyFrom(t.Context(), e.db, s.Model, rows...) },
		"InsertMany": func(rows ...*customer) error {
			_, err := kmspgx.InsertMany(t.Context(), e.db, s.Model, rows, kmspgx.InsertOptions{})
			return err
		},
		"Batch": func(rows ...*customer) error {
			var b kmspgx.Batch
			kmspgx.QueueInsert(&b, s.Model, rows...)
			return b.Send(t.Context(), e.db)
		},
		"Batch of two": func(rows ...*customer) error {
			var b kmspgx.Batch
			kmspgx.QueueInsert(&b, s.Model, rows[:2]...)
			kmspgx.QueueInsert(&b, s.Model, rows[2])
			return b.Send(t.Context(), e.db)
		},
	} {
		wantError(t, name, insert(c, other, c), kmsencrypted.ErrConfig)
	}
	if n := s.count(t); n != 0 {
		t.Errorf("%d rows", n)
	}
}
