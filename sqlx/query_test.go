package kmssqlx_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// stored returns the value that the database stores for a field or key.
func stored(t testing.TB, v driver.Valuer) string {
	t.Helper()
	value, err := v.Value()
	must(t, err)
	return fmt.Sprintf("%s", value)
}

func getAndSelect(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 3)
	var c customer
	must(t, kmssqlx.Get(t.Context(), e.db, s.Model, &c, "SELECT * FROM "+e.table+" WHERE id = ?", all[1].ID))
	if c.Email.Must() != email(1) || c.Name != "name1" {
		t.Errorf("Get = %+v", c)
	}
	if text := fmt.Sprintf("%v %+v %#v", c, c, c); containsSecret(text) {
		t.Errorf("a record prints its plaintext: %s", text)
	}
	if err := kmssqlx.Get(t.Context(), e.db, s.Model, &c, "SELECT * FROM "+e.table+" WHERE id = ?", -1); err != sql.ErrNoRows {
		t.Errorf("Get of no row: %v, want sql.ErrNoRows itself", err)
	}
	if c.Name != "name1" {
		t.Error("Get without a row changed the record")
	}
	page := []customer{{Name: "old"}, {Name: "old"}, {Name: "old"}, {Name: "old"}}
	must(t, kmssqlx.Select(t.Context(), e.db, s.Model, &page, "SELECT * FROM "+e.table+" ORDER BY id"))
	if len(page) != 3 || page[2].Email.Must() != email(2) {
		t.Errorf("Select = %d records", len(page))
	}
	must(t, kmssqlx.Select(t.Context(), e.db, s.Model, &page, "SELECT id, name FROM "+e.table+" ORDER BY id"))
	if v, err := page[2].Email.Get(); !errors.Is(err, kmsencrypted.ErrNotLoaded) || v != "" {
		t.Errorf("Email after a second Select without it: %v, want ErrNotLoaded", err)
	}
	must(t, kmssqlx.Select(t.Context(), e.db, s.Model, &page, "SELECT * FROM "+e.table+" WHERE id < 0"))
	if len(page) != 0 {
		t.Errorf("Select of nothing = %d records", len(page))
	}
	wantError(t, "Select of a column without a field", kmssqlx.Select(t.Context(), e.db, s.Model, &page, "SELECT *, 1 AS more FROM "+e.table))
}

// A struct that is used again holds nothing of the record before.
func getReplaces(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 2)
	c := s.get(t, all[0].ID)
	must(t, kmssqlx.Get(t.Context(), e.db, s.Model, &c, "SELECT id, name FROM "+e.table+" WHERE id = ?", all[1].ID))
	if v, err := c.Email.Get(); !errors.Is(err, kmsencrypted.ErrNotLoaded) || v != "" {
		t.Errorf("Email after a read without it: %v, want ErrNotLoaded", err)
	}
}

func selectArguments(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 4)
	query := func(args []any, where string) int {
		t.Helper()
		var found []customer
		must(t, kmssqlx.Select(t.Context(), e.db, s.Model, &found, "SELECT * FROM "+e.table+" WHERE "+where, args...))
		return len(found)
	}
	if n := query([]any{[]int64{all[0].ID, all[2].ID}, "name1"}, "id IN (?) OR name = ?"); n != 3 {
		t.Errorf("IN with a list found %d rows, want 3", n)
	}
	if n := query([]any{[]string{"name0", "name3"}}, "name IN (?)"); n != 2 {
		t.Errorf("IN with texts found %d rows, want 2", n)
	}
	if n := query([]any{"name3"}, "name = ?"); n != 1 {
		t.Errorf("? found %d rows, want 1", n)
	}
	switch e.name {
	case "Postgres":
		if n := query([]any{[]string{"name0", "name3"}}, `name = ANY($1) AND '{"a": 1}'::jsonb ? 'a'`); n != 2 {
			t.Errorf("$1 with an array and ? as an operator found %d rows, want 2", n)
		}
		fallthrough
	case "SQLite":
		if n := query([]any{"name3"}, "name = $1"); n != 1 {
			t.Errorf("$1 found %d rows, want 1", n)
		}
	}
	var c customer
	wantError(t, "an empty list", kmssqlx.Get(t.Context(), e.db, s.Model, &c, "SELECT * FROM "+e.table+" WHERE id IN (?)", []int64{}))
	wantError(t, "an unsealed field as an argument", kmssqlx.Get(t.Context(), e.db, s.Model, &c, "SELECT * FROM "+e.table+" WHERE name = ?", field.New(secret)), kmsencrypted.ErrUnsealed)
	wantError(t, "an unsealed field among lists", kmssqlx.Get(t.Context(), e.db, s.Model, &c, "SELECT * FROM "+e.table+" WHERE name = ? AND id IN (?)", field.New(secret), []int{1}), kmsencrypted.ErrUnsealed)
}

func namedQueries(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 4)
	conn, err := e.db.Connx(t.Context())
	must(t, err)
	defer conn.Close()
	var c customer
	for _, db := range []kmssqlx.Ext{e.db, conn} { // a Conn of sqlx itself has no named queries
		must(t, kmssqlx.NamedGet(t.Context(), db, s.Model, &c, "SELECT * FROM "+e.table+" WHERE name = :name", map[string]any{"name": "name2"}))
		if c.Email.Must() != email(2) {
			t.Error("a named query found another row")
		}
		must(t, kmssqlx.NamedGet(t.Context(), db, s.Model, &c, "SELECT * FROM "+e.table+" WHERE id = :id AND name = :name", all[3]))
		if c.Email.Must() != email(3) {
			t.Error("a named query by a record found another row")
		}
	}
	// Lists and look-ups are spread, under names too.
	var found []customer
	must(t, kmssqlx.NamedSelect(t.Context(), e.db, s.Model, &found, "SELECT * FROM "+e.table+" WHERE email_bidx IN (:emails) AND id IN (:ids) ORDER BY id",
		map[string]any{"emails": s.Lookup("Email", email(0), email(1), email(3)), "ids": []int64{all[1].ID, all[2].ID, all[3].ID}}))
	if len(found) != 2 || found[0].ID != all[1].ID || found[1].Email.Must() != email(3) {
		t.Errorf("NamedSelect found %d rows, want 1 and 3", len(found))
	}
	if err := kmssqlx.NamedGet(t.Context(), e.db, s.Model, &c, "SELECT * FROM "+e.table+" WHERE name = :name", map[string]any{"name": "nobody"}); err != sql.ErrNoRows {
		t.Errorf("NamedGet of no row: %v, want sql.ErrNoRows itself", err)
	}
	unsealed := customer{Email: field.New(secret)}
	wantError(t, "an unsealed field under a name", kmssqlx.NamedSelect(t.Context(), e.db, s.Model, &found, "SELECT * FROM "+e.table+" WHERE name = :email_ciphertext", unsealed), kmsencrypted.ErrUnsealed)
	if found != nil {
		t.Error("NamedSelect left records of the query before")
	}
	wantError(t, "a name without a value", kmssqlx.NamedGet(t.Context(), e.db, s.Model, &c, "SELECT * FROM "+e.table+" WHERE name = :name", map[string]any{"nom": secret}))
	err = kmssqlx.NamedGet(t.Context(), e.db, s.Model, &c, "SELECT * FROM "+e.table+" WHERE name = :nom", struct{ PIN int }{4711})
	if err == nil || strings.Contains(err.Error(), "4711") || !strings.Contains(err.Error(), "nom") {
		t.Errorf("a name that the struct does not have: %v, want one that says which and holds no value", err)
	}
}

func selectOneCallEach(t *testing.T, e *env) {
	s := e.customers(t)
	s.insert(t, 40)
	var begun atomic.Int64
	together := make(chan struct{})
	wait := func(ctx context.Context) error {
		if e.db.Stats().InUse > 0 {
			t.Error("a database connection is held while the key service is called")
		}
		if begun.Add(1) == 10 {
			close(together)
		}
		select {
		case <-together:
			return nil
		case <-time.After(10 * time.Second):
			return errors.New("the calls are made one after the other")
		}
	}
	s.kms.Set(kmstest.Before(wait))
	var page []customer
	wraps, unwraps := calls(s.kms, func() {
		must(t, kmssqlx.Select(t.Context(), e.db, s.Model, &page, "SELECT * FROM "+e.table))
	})
	if wraps != 0 || unwraps != 40 {
		t.Errorf("Select of 40 records made %d wraps and %d unwraps", wraps, unwraps)
	}
}

func selectDamaged(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 5)
	e.db.MustExec("UPDATE " + e.table + " SET encrypted_kms_key = NULL WHERE name = 'name1'")
	other := stored(t, all[0].Email)
	must2(t)(e.db.Exec(e.db.Rebind("UPDATE "+e.table+" SET email_ciphertext = ? WHERE name = 'name3'"), other))
	var page []customer
	err := kmssqlx.Select(t.Context(), e.db, s.Model, &page, "SELECT * FROM "+e.table+" ORDER BY id")
	wantError(t, "two damaged rows", err, kmsencrypted.ErrNoDataKey, kmsencrypted.ErrOtherDataKey)
	failures, ok := errors.AsType[field.Failures](err)
	if !ok || len(failures) != 2 || failures[0].Index != 1 || failures[1].Index != 3 {
		t.Fatalf("Select = %v, want failures of 1 and 3", err)
	}
	for i, c := range page {
		if _, err := c.Email.Get(); (err != nil) != (i == 1 || i == 3) {
			t.Errorf("record %d: %v", i, err)
		}
	}
	var c customer
	err = kmssqlx.Get(t.Context(), e.db, s.Model, &c, "SELECT * FROM "+e.table+" WHERE name = 'name3'")
	wantError(t, "Get of a damaged row", err, kmsencrypted.ErrOtherDataKey)
	if c.Name != "name3" {
		t.Error("Get of a damaged row does not show the rest of it")
	}
}

func selectCancelled(t *testing.T, e *env) {
	s := e.customers(t)
	s.insert(t, 40)
	ctx, cancel := context.WithCancel(t.Context())
	var calls atomic.Int64
	wait := func(ctx context.Context) error {
		if calls.Add(1) == 5 {
			cancel()
		}
		if calls.Load() < 5 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	s.kms.Set(kmstest.Before(wait))
	var page []customer
	err := kmssqlx.Select(ctx, e.db, s.Model, &page, "SELECT * FROM "+e.table+" ORDER BY id")
	wantError(t, "cancelled while opening", err, context.Canceled)
	for _, c := range page {
		if v, err := c.Email.Get(); err != nil && (v != "" || !errors.Is(err, kmsencrypted.ErrNotOpened)) {
			t.Errorf("a record of a cancelled list: %v", err)
		}
	}
	wantError(t, "cancelled before", kmssqlx.Select(ctx, e.db, s.Model, &page, "SELECT * FROM "+e.table), context.Canceled)
	if page != nil {
		t.Errorf("a query that failed left %d records", len(page))
	}
}

// Rows found by an index are compared with the value looked up.
func lookupHits(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 4)
	query := "SELECT * FROM " + e.table + " WHERE email_bidx IN (?) ORDER BY id"
	find := func(values ...any) (found []customer) {
		t.Helper()
		must(t, kmssqlx.Select(t.Context(), e.db, s.Model, &found, query, s.Lookup("Email", values...)))
		return found
	}
	if found := find("CUSTOMER1@"+secret, email(3)); len(found) != 2 || found[0].ID != all[1].ID || found[1].ID != all[3].ID {
		t.Errorf("Lookup found %d rows, want 1 and 3", len(found))
	}
	// Somebody makes another row look like the one that is sought.
	must2(t)(e.db.Exec(e.db.Rebind("UPDATE "+e.table+" SET email_bidx = ? WHERE id = ?"), stored(t, all[1].EmailIndex), all[0].ID))
	if found := find(email(1)); len(found) != 1 || found[0].ID != all[1].ID {
		t.Errorf("Lookup found %d rows, want the real one", len(found))
	}
	var c customer
	must(t, kmssqlx.Get(t.Context(), e.db, s.Model, &c, query, s.Lookup("Email", email(1))))
	if c.ID != all[1].ID {
		t.Errorf("Get by index found row %d, want %d", c.ID, all[1].ID)
	}
	if err := kmssqlx.Get(t.Context(), e.db, s.Model, &c, query, s.Lookup("Email", email(9))); err != sql.ErrNoRows {
		t.Errorf("Get by index of nobody: %v, want sql.ErrNoRows", err)
	}
	var found []customer
	partial := "SELECT id, name FROM " + e.table + " WHERE email_bidx IN (?)"
	wantError(t, "hits that cannot be checked", kmssqlx.Select(t.Context(), e.db, s.Model, &found, partial, s.Lookup("Email", email(1))), kmsencrypted.ErrNotLoaded)
	wantError(t, "a lookup without an index", kmssqlx.Select(t.Context(), e.db, s.Model, &found, query, s.Lookup("Phone", secret)), kmsencrypted.ErrConfig)
	wantError(t, "a lookup of NULL", kmssqlx.Select(t.Context(), e.db, s.Model, &found, query, s.Lookup("Email", nil)), kmsencrypted.ErrConfig)
	wantError(t, "a lookup of nothing", kmssqlx.Select(t.Context(), e.db, s.Model, &found, query, s.Lookup("Email")))
}

// What was not selected stays as it is, in the struct and in the database.
func partialRead(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 1)
	id := all[0].ID
	all[0].Phone.Set(new("phone@" + secret))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &all[0]))
	read := func(columns string) (c customer, err error) {
		return c, kmssqlx.Get(t.Context(), e.db, s.Model, &c, "SELECT "+columns+" FROM "+e.table+" WHERE id = ?", id)
	}
	c, err := read("id, encrypted_kms_key, email_ciphertext")
	must(t, err)
	c.Email.Set(email(5))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &c))
	if got := s.get(t, id); got.Name != "name0" || got.Email.Must() != email(5) || *got.Phone.Must() != "phone@"+secret {
		t.Errorf("after the update of a partial read: %+v", got)
	}
	_, err = read("id, email_ciphertext")
	wantError(t, "a read without the key column", err, kmsencrypted.ErrNotLoaded)
	_, err = read("encrypted_kms_key, email_ciphertext")
	wantError(t, "a read without the id", err, kmsencrypted.ErrNoID)
	c, err = read("id, name")
	must(t, err)
	c.Email.Set(email(6))
	// It looks like a record that is not in the database yet, so it gets a first
	// key, which the row refuses.
	wantError(t, "an update without the key column", kmssqlx.Update(t.Context(), e.db, s.Model, &c), kmsencrypted.ErrConflict)
	c, err = read("id, encrypted_kms_key")
	must(t, err)
	wantError(t, "a rekey of a partial read", kmssqlx.Rekey(t.Context(), e.db, s.Model, &c), kmsencrypted.ErrNotLoaded)
	if got := s.get(t, id); got.Email.Must() != email(5) {
		t.Error("a refused update changed the row")
	}
}

// must2 is must for calls that return something else too.
func must2(t testing.TB) func(any, error) {
	return func(_ any, err error) { t.Helper(); must(t, err) }
}
