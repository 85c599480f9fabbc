package kmssqlx_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func insertWithID(t *testing.T, e *env) {
	e.id = "bigint PRIMARY KEY"
	s := e.customers(t)
	db := e.recorder()
	c := customer{ID: 7, Name: "Ada", Email: field.New(email(7))}
	wraps, unwraps := calls(s.kms, func() { must(t, kmssqlx.Insert(t.Context(), db, s.Model, &c)) })
	if wraps != 1 || unwraps != 0 {
		t.Errorf("Insert made %d wraps and %d unwraps, want one call", wraps, unwraps)
	}
	if len(db.sent) != 1 {
		t.Errorf("Insert sent %q, want one statement", db.sent)
	}
	read := s.get(t, 7)
	if read.Name != "Ada" || read.Email.Must() != email(7) || !read.Phone.IsNull() || read.Shout != "ADA" || read.Status != nil {
		t.Errorf("read back: %+v", read)
	}
	c.Email.Set(email(8))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &c)) // without reading it first
	if got := s.get(t, 7).Email.Must(); got != email(8) {
		t.Error("an update right after the insert was lost")
	}
}

func insertWithoutID(t *testing.T, e *env) {
	s := e.customers(t)
	db := e.recorder()
	c := customer{Name: "Ada", Email: field.New(email(0))}
	wraps, _ := calls(s.kms, func() { must(t, kmssqlx.Insert(t.Context(), db, s.Model, &c)) })
	if c.ID == 0 || wraps != 1 {
		t.Errorf("Insert: id %d, %d calls, want the database's id and one call", c.ID, wraps)
	}
	if want := map[field.Dialect]int{field.Postgres: 2, field.MySQL: 1, field.SQLite: 1}[e.dialect]; len(db.sent) != want {
		t.Errorf("Insert sent %q, want %d", db.sent, want)
	}
	if got := s.get(t, c.ID).Email.Must(); got != email(0) {
		t.Error("read back another value")
	}
	// A record with nothing to seal needs no data key.
	empty := customer{Name: "Nobody"}
	wraps, _ = calls(s.kms, func() { must(t, kmssqlx.Insert(t.Context(), db, s.Model, &empty)) })
	if read := s.get(t, empty.ID); !read.Key.IsNull() || wraps != 0 {
		t.Errorf("a record without values: %d calls, key NULL = %v", wraps, read.Key.IsNull())
	}
	must(t, kmssqlx.Insert(t.Context(), db, s.Model)) // nothing at all
}

func insertManyWithoutID(t *testing.T, e *env) {
	s := e.customers(t)
	const n = 1205
	all := s.insert(t, n)
	var read []customer
	must(t, kmssqlx.Select(t.Context(), e.db, s.Model, &read, "SELECT * FROM "+e.table+" ORDER BY id"))
	if len(read) != n {
		t.Fatalf("%d rows, want %d", len(read), n)
	}
	byName := make(map[string]customer)
	for _, c := range read {
		byName[c.Name] = c
	}
	for i, c := range all {
		if got := byName[fmt.Sprintf("name%d", i)]; got.ID != c.ID || got.Email.Must() != email(i) || !got.Born.Must().Equal(c.Born.Must()) {
			t.Fatalf("customer %d: the record says id %d, the row has %d", i, c.ID, got.ID)
		}
	}
}

// Many records take few statements, except where there is no network between.
func insertInFewStatements(t *testing.T, e *env) {
	s := e.customers(t)
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	defer tx.Rollback()
	all := make([]customer, 50)
	for i := range all {
		all[i] = customer{Name: fmt.Sprint("name", i), Email: field.New(email(i))}
	}
	db := &recorder{Ext: tx, driver: e.driver}
	must(t, kmssqlx.Insert(t.Context(), db, s.Model, field.Pointers(all)...))
	want := map[string]int{
		"Postgres": 2 + 2, // ids, INSERT, and a savepoint around
		"MariaDB":  3 + 2, // a question, INSERT, UPDATE, and a savepoint around
		"MySQL":    3 + 2*len(all),
		"SQLite":   2 + 2*len(all),
	}[e.name]
	if len(db.sent) != want {
		t.Errorf("%d statements for %d records, want %d: %.1000q", len(db.sent), len(all), want, db.sent)
	}
	must(t, tx.Commit())
	if got := s.get(t, all[49].ID); got.Name != "name49" || got.Email.Must() != email(49) {
		t.Errorf("the last of them: %+v", got)
	}
}

// The database assigns ids that are not known before the row exists.
func insertIDsThatCannotBeFetched(t *testing.T, e *env) {
	e.id = e.otherID
	s := e.customers(t)
	all := s.insert(t, 3)
	for i, c := range all {
		if got := s.get(t, c.ID); got.Name != c.Name || got.Email.Must() != email(i) {
			t.Errorf("customer %d: read back %+v", i, got)
		}
	}
	// Some ids given, some not.
	mixed := []customer{{ID: 900, Name: "given", Email: field.New(email(900))}, {Name: "made", Email: field.New(email(901))}}
	must(t, kmssqlx.Insert(t.Context(), e.db, s.Model, field.Pointers(mixed)...))
	if mixed[0].ID != 900 || s.get(t, 900).Name != "given" || s.get(t, mixed[1].ID).Name != "made" {
		t.Errorf("mixed ids: %d and %d", mixed[0].ID, mixed[1].ID)
	}
}

// The tag of the id says that only the INSERT tells it.
func insertReturnedID(t *testing.T, e *env) {
	type order struct {
		ID   int64            `db:"id,returned"`
		Key  field.Key        `db:"encrypted_kms_key"`
		Card field.Of[string] `db:"card"`
	}
	m := model[order](t, e, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}}})
	createTable(t, e, m, "id "+e.id)
	if e.name == "Postgres" { // where a trigger has the last word
		e.db.MustExec("CREATE FUNCTION " + e.table + "_id() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := NEW.id + 1000; RETURN NEW; END $$")
		e.db.MustExec("CREATE TRIGGER id BEFORE INSERT ON " + e.table + " FOR EACH ROW EXECUTE FUNCTION " + e.table + "_id()")
	}
	orders := []order{{Card: field.New(secret)}, {Card: field.New(secret + "2")}}
	must(t, kmssqlx.Insert(t.Context(), e.db, m, field.Pointers(orders)...))
	var read []order
	must(t, kmssqlx.Select(t.Context(), e.db, m, &read, "SELECT * FROM "+e.table+" ORDER BY id"))
	if len(read) != 2 || read[0].ID != orders[0].ID || read[0].Card.Must() != secret || read[1].Card.Must() != secret+"2" {
		t.Errorf("read back %d orders, of ids %d and %d", len(read), orders[0].ID, orders[1].ID)
	}
	if e.name == "Postgres" && orders[0].ID <= 1000 {
		t.Errorf("id %d, want the trigger's", orders[0].ID)
	}
}

// A context of the program's that takes the id is asked when there is one, in
// both formats.
func insertOwnContext(t *testing.T, e *env) {
	e.id = e.otherID
	type customer struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext" kms:"lockbox"`
	}
	for name, format := range map[string]kmsencrypted.Format{"native": kmsencrypted.Native, "ruby": kmsencrypted.Ruby} {
		own := *e
		own.table += name
		m := model[customer](t, &own, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {
			Provider: kmstest.Memory(), Format: format,
			Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
				return kmsencrypted.Context{"customer": s.ID[0]}, nil
			},
		}}})
		createTable(t, &own, m, "id "+e.id)
		c := customer{Email: field.New(email(1))}
		must(t, kmssqlx.Insert(t.Context(), e.db, m, &c))
		var read customer
		must(t, kmssqlx.Get(t.Context(), e.db, m, &read, "SELECT * FROM "+own.table+" WHERE id = ?", c.ID))
		if read.Email.Must() != email(1) {
			t.Errorf("%s: read back another value", name)
		}
	}
}

// A recipe that leaves the id out lets a record be sealed before it has one.
func insertUnboundID(t *testing.T, e *env) {
	e.id = e.otherID
	s := e.customers(t, func(v *kmsencrypted.Version) {
		v.OmitID = true
		v.Context = func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"table": "customers"}, nil
		}
	})
	db := e.recorder()
	c := customer{Name: "Ada", Email: field.New(email(0))}
	must(t, kmssqlx.Insert(t.Context(), db, s.Model, &c))
	if want := map[field.Dialect]int{field.Postgres: 2, field.MySQL: 1, field.SQLite: 1}[e.dialect]; len(db.sent) != want {
		t.Errorf("Insert sent %q, want %d statements", db.sent, want)
	}
	all := s.insert(t, 3)
	for i, c := range all {
		if got := s.get(t, c.ID); got.Name != c.Name || got.Email.Must() != email(i) {
			t.Errorf("customer %d: read back %+v", i, got)
		}
	}
}

func insertCompoundAndTextIDs(t *testing.T, e *env) {
	type order struct {
		Tenant string           `db:"tenant" kms:"id"`
		Number int32            `db:"order" kms:"id"` // a word of SQL
		Group  string           `db:"group"`
		Key    field.Key        `db:"key"`
		Card   field.Of[string] `db:"select"`
	}
	k := kmstest.Memory()
	m := model[order](t, e, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: k}}})
	q := map[field.Dialect]string{field.Postgres: `"`, field.MySQL: "`", field.SQLite: `"`}[e.dialect]
	createTable(t, e, m, "tenant varchar(20), "+q+"order"+q+" int, "+q+"group"+q+" varchar(20)", "PRIMARY KEY (tenant, "+q+"order"+q+")")
	o := order{Tenant: "t1", Number: 5, Group: "g", Card: field.New(secret)}
	must(t, kmssqlx.Insert(t.Context(), e.db, m, &o))
	o.Card.Set(secret + "2")
	must(t, kmssqlx.Update(t.Context(), e.db, m, &o, "group"))
	var read order
	must(t, kmssqlx.Get(t.Context(), e.db, m, &read, "SELECT * FROM "+e.table+" WHERE tenant = ?", "t1"))
	if read.Card.Must() != secret+"2" {
		t.Error("the update of a compound key was lost")
	}
	must(t, kmssqlx.Delete(t.Context(), e.db, m, &read))
	for number := range int32(3) { // 0 is a number
		must(t, kmssqlx.Insert(t.Context(), e.db, m, &order{Tenant: "t2", Number: number, Card: field.New(secret)}))
	}
	var all []order
	must(t, kmssqlx.Select(t.Context(), e.db, m, &all, "SELECT * FROM "+e.table+" WHERE tenant = ?", "t2"))
	if len(all) != 3 || all[0].Card.Must() != secret {
		t.Errorf("%d records with numbers from 0", len(all))
	}
	wantError(t, "half an id", kmssqlx.Insert(t.Context(), e.db, m, &order{Number: 5, Card: field.New(secret)}), kmsencrypted.ErrNoID)
}

// After any failure no row exists and the records are unchanged.
func insertAllOrNone(t *testing.T, e *env) {
	for _, ids := range []string{"", "other"} {
		own := *e
		own.table += ids
		if ids == "other" {
			own.id = e.otherID
		}
		s := own.customers(t)
		s.insert(t, 1)
		records := func() []customer {
			return []customer{
				{Name: "new", Email: field.New(email(1))},
				{Name: "name0", Email: field.New(email(2))}, // is there already
			}
		}
		check := func(what string, all []customer, err error, want ...error) {
			t.Helper()
			wantError(t, what, err, want...)
			if n := s.count(t); n != 1 {
				t.Errorf("%s: %d rows, want 1", what, n)
			}
			for _, c := range all {
				if c.ID != 0 || c.Email.Must() == "" {
					t.Errorf("%s: id %d is left behind", what, c.ID)
				}
			}
		}
		all := records()
		check("unique violation", all, kmssqlx.Insert(t.Context(), own.db, s.Model, field.Pointers(all)...))
		// The same records once more, with the mistake mended.
		all[1].Name = "other"
		must(t, kmssqlx.Insert(t.Context(), own.db, s.Model, field.Pointers(all)...))
		if s.get(t, all[1].ID).Email.Must() != email(2) {
			t.Error("insert after a failed one")
		}
		must(t, kmssqlx.Delete(t.Context(), own.db, s.Model, &all[0]))
		must(t, kmssqlx.Delete(t.Context(), own.db, s.Model, &all[1]))

		var calls atomic.Int64
		throttled := func(context.Context) error {
			if calls.Add(1) > 1 {
				return kmsencrypted.ErrThrottled
			}
			return nil
		}
		all = records()
		all[1].Name = "other"
		s.kms.Set(kmstest.Before(throttled))
		check("key service fails", all, kmssqlx.Insert(t.Context(), own.db, s.Model, field.Pointers(all)...), kmsencrypted.ErrThrottled)
		s.kms.Set()

		ctx, cancel := context.WithCancel(t.Context())
		cancelled := func(context.Context) error { cancel(); return nil }
		s.kms.Set(kmstest.Before(cancelled))
		err := kmssqlx.Insert(ctx, own.db, s.Model, field.Pointers(all)...)
		s.kms.Set()
		check("context ends during the insert", all, err, context.Canceled)
	}
}

// A record describes one row, on every database.
func insertTwice(t *testing.T, e *env) {
	s := e.customers(t)
	for _, id := range []int64{0, 7} {
		c := customer{ID: id, Name: "name", Email: field.New(email(0))}
		wantError(t, "a record twice", kmssqlx.Insert(t.Context(), e.db, s.Model, &c, &c), kmsencrypted.ErrConfig)
		if n := s.count(t); n != 0 || c.ID != id {
			t.Errorf("%d rows of a record that was listed twice, with id %d", n, c.ID)
		}
	}
}

// A copy of a record, as by Ruby's dup, is a record of its own; one that was not
// opened cannot be copied.
func insertCopy(t *testing.T, e *env) {
	s := e.customers(t)
	original := s.insert(t, 1)[0]
	read := s.get(t, original.ID)
	read.ID, read.Name = 0, "copy"
	must(t, kmssqlx.Insert(t.Context(), e.db, s.Model, &read))
	if got := s.get(t, read.ID); got.Email.Must() != email(0) {
		t.Error("the copy holds another value")
	}
	first, second := s.get(t, original.ID), s.get(t, read.ID)
	if stored(t, first.Key) == stored(t, second.Key) || stored(t, first.Email) == stored(t, second.Email) {
		t.Error("the copy shares the key or the ciphertext of the original")
	}
	var closed customer
	must(t, e.db.Get(&closed, "SELECT * FROM "+e.table+" WHERE id = "+fmt.Sprint(original.ID)))
	closed.ID, closed.Name = 0, "closed"
	wantError(t, "copy of a closed record", kmssqlx.Insert(t.Context(), e.db, s.Model, &closed), kmsencrypted.ErrNotOpened)
	if errors.Is(s.Open(t.Context(), &second), kmsencrypted.ErrDecrypt) {
		t.Error("the copy does not open")
	}
}

// A bulk insert names the record that the database refuses, by its index and not by
// its values, and inserts none. In a transaction of the caller the others remain.
func insertNamesTheRow(t *testing.T, e *env) {
	for _, given := range []bool{false, true} {
		if given {
			e.id = "bigint PRIMARY KEY"
			e.table += "_given"
		}
		s := e.customers(t)
		many := func() []*customer {
			all := make([]customer, 40)
			for i := range all {
				all[i] = customer{Name: fmt.Sprint("nomen", i), Email: field.New(email(i))}
				if given {
					all[i].ID = int64(1000 + i)
				}
			}
			all[31].Name = all[7].Name
			return field.Pointers(all)
		}
		check := func(where string, err error) {
			t.Helper()
			failures, ok := errors.AsType[field.Failures](err)
			if !ok || len(failures) != 1 || failures[0].Index != 31 || !strings.Contains(err.Error(), "name") || strings.Contains(err.Error(), "nomen") {
				t.Errorf("%s: Insert of a name twice: %v, want the record at index 31 and the constraint", where, err)
			}
		}
		check("db", kmssqlx.Insert(t.Context(), e.db, s.Model, many()...))
		tx, err := e.db.BeginTxx(t.Context(), nil)
		must(t, err)
		before := &customer{Name: "before", Email: field.New(email(1))}
		if given {
			before.ID = 5000
		}
		must(t, kmssqlx.Insert(t.Context(), tx, s.Model, before))
		check("tx", kmssqlx.Insert(t.Context(), tx, s.Model, many()...))
		must(t, tx.Commit())
		var n int
		must(t, e.db.Get(&n, "SELECT count(*) FROM "+e.table))
		if n != 1 {
			t.Errorf("%d rows, want the one before", n)
		}
	}
}
