package ormtest

import (
	"database/sql/driver"
	"fmt"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// NULL is NULL, and blank values are values.
func nullAndBlank(t *testing.T, w *work) {
	blank := []Values{
		{Tenant: "a", Name: "null"},
		{Tenant: "a", Name: "empty", Email: new(""), Phone: new(""), Nickname: new("")},
		{Tenant: "a", Name: "spaces", Email: new(" "), Phone: new("\n"), Nickname: new("\t")},
		{Tenant: "a", Name: "half", Phone: phone(1)},
		{Tenant: "a", Name: "keyless", Nickname: nickname(1)},
	}
	for _, v := range blank {
		r := w.DB.New(0, v)
		must(t, w.DB.Insert(w.ctx, r))
		holds(t, "inserted "+v.Name, w.find(t, r.ID()), v)
		w.want(t, "inserted "+v.Name, r.ID(), v)
		// From each to each.
		for _, next := range blank {
			held := w.find(t, r.ID())
			held.SetEmail(next.Email)
			held.SetPhone(next.Phone)
			held.SetNickname(next.Nickname)
			must(t, w.DB.Update(w.ctx, held))
			v.Email, v.Phone, v.Nickname = next.Email, next.Phone, next.Nickname
			holds(t, v.Name+" as "+next.Name, w.find(t, r.ID()), v)
			w.want(t, v.Name+" as "+next.Name, r.ID(), v)
		}
	}
}

// Columns that were not read stay closed, and are not overwritten.
func partialRead(t *testing.T, w *work) {
	id := w.add(t, 1)[0].ID()
	r, err := w.DB.FindOnly(w.ctx, id, "id", "tenant_id", "name", "note", "encrypted_kms_key", "email_ciphertext", "email_bidx", "encrypted_kms_key_phone")
	must(t, err)
	if _, err := r.Values(); err == nil {
		t.Error("a column that was not read has a value")
	}
	r.SetEmail(email(7))
	must(t, w.DB.Update(w.ctx, r))
	want := person(0)
	want.Email = email(7)
	w.want(t, "after a partial read and an update", id, want)
	if r, err := w.DB.FindOnly(w.ctx, id, "id", "tenant_id", "email_ciphertext"); err == nil {
		_, err := r.Values()
		wantError(t, "a read without the key column", err)
	}
}

// A row that does not open is an error that names it, and the others are read.
func damagedRow(t *testing.T, w *work) {
	rows := w.add(t, 3)
	_, err := w.SQL.Exec(fmt.Sprintf("UPDATE %s SET encrypted_kms_key = '%s' WHERE id = %d", Table, w.keyOf(t, rows[0].ID()), rows[1].ID()))
	must(t, err)
	_, err = w.DB.All(w.ctx)
	wantError(t, "All with a damaged row", err)
	if name := fmt.Sprint("id=", rows[1].ID()); err != nil && !strings.Contains(err.Error(), name) {
		t.Errorf("%v does not name %s", err, name)
	}
	_, err = w.DB.Find(w.ctx, rows[1].ID())
	wantError(t, "Find of a damaged row", err)
	holds(t, "beside a damaged row", w.find(t, rows[2].ID()), person(2))
	_, err = w.DB.Find(w.ctx, -1)
	wantError(t, "Find of no row", err)
}

func (w *work) keyOf(t *testing.T, id int64) string {
	t.Helper()
	return stored(t, w.person(t, id).Key)
}

// stored returns the content of a column.
func stored(t *testing.T, v driver.Valuer) string {
	t.Helper()
	value, err := v.Value()
	must(t, err)
	return fmt.Sprintf("%s", value)
}

func lookup(t *testing.T, w *work) {
	rows := w.add(t, 4)
	find := func(what, address string, want ...Record) {
		t.Helper()
		found, err := w.DB.Lookup(w.ctx, "Email", address)
		must(t, err)
		var got, wanted []int64
		for _, r := range found {
			got = append(got, r.ID())
		}
		for _, r := range want {
			wanted = append(wanted, r.ID())
		}
		if fmt.Sprint(got) != fmt.Sprint(wanted) {
			t.Errorf("%s: found %v, want %v", what, got, wanted)
		}
	}
	find("one", *email(1), rows[1])
	find("in capitals", strings.ToUpper(*email(1)), rows[1])
	find("nobody", *email(9))
	find("blank", "")
	r := w.find(t, rows[2].ID())
	r.SetEmail(email(1))
	must(t, w.DB.Update(w.ctx, r))
	find("two", *email(1), rows[1], rows[2])
	find("the former value", *email(2))
	// Somebody gave a row the index of another: it comes first, and is no hit.
	_, err := w.SQL.Exec(fmt.Sprintf("UPDATE %s SET email_bidx = (SELECT b FROM (SELECT email_bidx AS b FROM %[1]s WHERE id = %d) AS x) WHERE id = %d", Table, rows[3].ID(), rows[0].ID()))
	must(t, err)
	find("beside a false hit", *email(3), rows[3])
}

// Many records take one call each for a key, and few statements.
func bulk(t *testing.T, w *work) {
	const n = 300
	rows := make([]Record, n)
	for i := range rows {
		rows[i] = w.DB.New(int64(1_000_000+i), person(i))
	}
	wraps, unwraps := w.calls(func() { must(t, w.DB.Insert(w.ctx, rows...)) })
	if wraps != 2*n || unwraps != 0 {
		t.Errorf("inserting %d records under two keys: %d calls to wrap and %d to unwrap", n, wraps, unwraps)
	}
	wraps, unwraps = w.calls(func() {
		all, err := w.DB.All(w.ctx)
		must(t, err)
		if len(all) != n {
			t.Fatalf("%d records, want %d", len(all), n)
		}
		for i, r := range all {
			holds(t, "read with many", r, person(i))
		}
	})
	if wraps != 0 || unwraps != 2*n {
		t.Errorf("reading %d records under two keys: %d calls to wrap and %d to unwrap", n, wraps, unwraps)
	}
	w.want(t, "one of many", rows[n-1].ID(), person(n-1))
}

// Without the key service nothing is written, and nothing is read as if it were blank.
func keyServiceFails(t *testing.T, w *work) {
	rows := w.add(t, 2)
	before := w.columns(t)
	for _, s := range w.services {
		s.Set(kmstest.Unavailable(1))
		t.Cleanup(func() { s.Set() })
	}
	wantError(t, "Insert", w.DB.Insert(w.ctx, w.DB.New(0, person(7))), kmsencrypted.ErrUnavailable)
	wantError(t, "Insert of two", w.DB.Insert(w.ctx, w.DB.New(0, person(8)), w.DB.New(0, person(9))), kmsencrypted.ErrUnavailable)
	_, err := w.DB.Find(w.ctx, rows[0].ID())
	wantError(t, "Find", err, kmsencrypted.ErrUnavailable)
	_, err = w.DB.All(w.ctx)
	wantError(t, "All", err, kmsencrypted.ErrUnavailable)
	rows[0].SetTenant("b") // needs a key of the new tenant
	wantError(t, "a move", w.DB.Update(w.ctx, rows[0]), kmsencrypted.ErrUnavailable)
	if w.columns(t) != before {
		t.Error("something was written")
	}
	for _, s := range w.services {
		s.Set()
	}
	must(t, w.DB.Update(w.ctx, rows[0]))
	want := person(0)
	want.Tenant = "b"
	w.want(t, "after the outage", rows[0].ID(), want)
}
