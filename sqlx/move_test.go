package kmssqlx_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// document belongs to a tenant, of which its encryption context is made.
type document struct {
	ID     int64            `db:"id"`
	Tenant string           `db:"tenant_id" kms:"context"`
	Title  string           `db:"title"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Body   field.Of[string] `db:"body_ciphertext"`
	Notes  field.Of[string] `db:"notes_ciphertext"`
}

// undeclared is the same without saying so.
type undeclared struct {
	ID     int64            `db:"id"`
	Tenant string           `db:"tenant_id"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Body   field.Of[string] `db:"body_ciphertext"`
}

// documents is a table of documents of tenants, under one key or one of each.
type documents struct {
	*env
	config kmsencrypted.Config
	*field.Model[document]
}

func tenantOf(record any) string {
	switch r := record.(type) {
	case *document:
		return r.Tenant
	case *undeclared:
		return r.Tenant
	}
	return ""
}

func (e *env) documents(t *testing.T, keyEach bool) documents {
	t.Helper()
	return e.documentsIn(t, keyEach, "varchar(20)")
}

// documentsIn has a type for the column of the tenant.
func (e *env) documentsIn(t *testing.T, keyEach bool, tenant string) documents {
	t.Helper()
	return e.documentsWith(t, keyEach, false, tenant)
}

// documentsWith are bound to their id, or not.
func (e *env) documentsWith(t *testing.T, keyEach, omitID bool, tenant string) documents {
	t.Helper()
	contextOf := func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		c := kmsencrypted.Context{"tenant": tenantOf(s.Record)}
		if !omitID {
			c["id"] = s.ID[0]
		}
		return c, nil
	}
	version := func() kmsencrypted.Version {
		v := kmsencrypted.Version{Provider: kmstest.Memory(), Context: contextOf, OmitID: omitID}
		if keyEach {
			keys := map[string]kmsencrypted.Provider{"a": kmstest.Memory(), "b": kmstest.Memory()}
			v.Provider = nil
			v.ProviderFor = func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
				if p, ok := keys[tenantOf(s.Record)]; ok {
					return p, nil
				}
				return nil, kmsencrypted.ErrKeyUnusable
			}
		}
		return v
	}
	d := documents{env: e, config: kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: version(), 2: version()}}}
	d.Model = model[document](t, e, d.config)
	createTable(t, e, d.Model, "id "+e.id+", tenant_id "+tenant+" NOT NULL, title varchar(20) NOT NULL DEFAULT ''")
	return d
}

func (d documents) insert(t *testing.T) document {
	t.Helper()
	row := document{Tenant: "a", Body: field.New(email(0))}
	must(t, kmssqlx.Insert(t.Context(), d.db, d.Model, &row))
	return d.get(t, row.ID)
}

func (d documents) get(t *testing.T, id int64) (row document) {
	t.Helper()
	// Fresh is fresh: another model and Box.
	must(t, kmssqlx.Get(t.Context(), d.db, model[document](t, d.env, d.config), &row, "SELECT * FROM "+d.table+" WHERE id = ?", id))
	return row
}

func (d documents) want(t *testing.T, what string, id int64, tenant, body string) {
	t.Helper()
	if got := d.get(t, id); got.Tenant != tenant || got.Body.Must() != body {
		t.Errorf("%s: the record is of tenant %s", what, got.Tenant)
	}
}

func moveUnderOneKey(t *testing.T, e *env) {
	d := e.documents(t, false)
	c := d.insert(t)
	body := stored(t, c.Body)
	c.Tenant = "b"
	must(t, kmssqlx.Update(t.Context(), e.db, d.Model, &c, "tenant_id"))
	d.want(t, "moved", c.ID, "b", email(0))
	if got := d.get(t, c.ID); stored(t, got.Body) != body {
		t.Error("a move under one key sealed a column again")
	}
	c.Tenant = "a" // not named, and with a change
	c.Body.Set(email(1))
	must(t, kmssqlx.Update(t.Context(), e.db, d.Model, &c))
	d.want(t, "moved back with a change", c.ID, "a", email(1))
	c.Tenant = "b"
	must(t, kmssqlx.Rewrap(t.Context(), e.db, d.Model, &c))
	d.want(t, "moved by a rewrap", c.ID, "b", email(1))
	c.Tenant = "a"
	must(t, kmssqlx.Rekey(t.Context(), e.db, d.Model, &c))
	d.want(t, "moved by a rekey", c.ID, "a", email(1))
	// Rolled back and repeated.
	c.Tenant = "b"
	for _, savepoints := range []bool{false, true} {
		e.retried(t, savepoints, func(db kmssqlx.Ext) error { return kmssqlx.Update(t.Context(), db, d.Model, &c, "tenant_id") })
		d.want(t, "moved by a retry", c.ID, c.Tenant, email(1))
		c.Tenant = "a"
	}
	// A record without a data key has nothing to wrap.
	empty := document{Tenant: "a"}
	must(t, kmssqlx.Insert(t.Context(), e.db, d.Model, &empty))
	empty.Tenant = "b"
	must(t, kmssqlx.Update(t.Context(), e.db, d.Model, &empty, "*"))
	if got := d.get(t, empty.ID); got.Tenant != "b" {
		t.Error("a record without a key did not move")
	}
}

func moveToAnotherKey(t *testing.T, e *env) {
	d := e.documents(t, true)
	c := d.insert(t)
	before := c
	c.Tenant = "b"
	must(t, kmssqlx.Update(t.Context(), e.db, d.Model, &c, "tenant_id"))
	d.want(t, "moved", c.ID, "b", email(0))
	// The old tenant's key opens nothing of today's: it is another data key.
	if got := d.get(t, c.ID); stored(t, got.Body) == stored(t, before.Body) {
		t.Error("a move to another key kept the data key")
	}
	c.Tenant = "nobody's"
	wantError(t, "a move to a tenant without a key", kmssqlx.Update(t.Context(), e.db, d.Model, &c, "tenant_id"), kmsencrypted.ErrKeyUnusable)
	d.want(t, "not moved", c.ID, "b", email(0))
	c.Tenant = "a"
	wantError(t, "a rewrap to another key", kmssqlx.Rewrap(t.Context(), e.db, d.Model, &c), kmsencrypted.ErrNeedsRekey)
	e.retried(t, false, func(db kmssqlx.Ext) error { return kmssqlx.Update(t.Context(), db, d.Model, &c, "tenant_id") })
	d.want(t, "moved by a retry", c.ID, "a", email(0))
}

// Others change the same row while it moves.
func moveBesideOthers(t *testing.T, e *env) {
	for _, keyEach := range []bool{false, true} {
		e.table += "x"
		d := e.documents(t, keyEach)
		c := d.insert(t)
		stale := d.get(t, c.ID)
		c.Tenant = "b"
		must(t, kmssqlx.Update(t.Context(), e.db, d.Model, &c, "tenant_id"))
		stale.Body.Set(email(5))
		wantError(t, "a change beside a move", kmssqlx.Update(t.Context(), e.db, d.Model, &stale), kmsencrypted.ErrConflict)
		stale.Tenant = "b"
		wantError(t, "a second move", kmssqlx.Update(t.Context(), e.db, d.Model, &stale, "tenant_id"), kmsencrypted.ErrConflict)
		d.want(t, "after conflicts", c.ID, "b", email(0))

		// A rewrap in between: the record keeps its own wrap, or gives way.
		mine, theirs := d.get(t, c.ID), d.get(t, c.ID)
		next := d.config
		next.Current = 2
		must(t, kmssqlx.Rewrap(t.Context(), e.db, model[document](t, e, next), &theirs))
		mine.Tenant = "a"
		err := kmssqlx.Update(t.Context(), e.db, d.Model, &mine, "tenant_id")
		if keyEach {
			wantError(t, "a move to another key beside a rewrap", err, kmsencrypted.ErrConflict)
			d.want(t, "not moved", c.ID, "b", email(0))
		} else {
			must(t, err)
			d.want(t, "moved beside a rewrap", c.ID, "a", email(0))
		}
		// Raw SQL moves the row and leaves it unreadable; nothing of ours follows it.
		mine = d.get(t, c.ID)
		e.db.MustExec("UPDATE " + e.table + " SET tenant_id = 'c'")
		wantError(t, "a rekey beside raw SQL", kmssqlx.Rekey(t.Context(), e.db, d.Model, &mine), kmsencrypted.ErrConflict)
	}
}

// What is not declared cannot be taken along: nothing is written.
func moveUndeclared(t *testing.T, e *env) {
	for _, keyEach := range []bool{false, true} {
		e.table += "x"
		d := e.documents(t, keyEach)
		m := model[undeclared](t, e, d.config)
		id := d.insert(t).ID
		for name, write := range map[string]func(*undeclared) error{
			"Update":              func(c *undeclared) error { return kmssqlx.Update(t.Context(), e.db, m, c, "tenant_id") },
			"Update with a value": func(c *undeclared) error { c.Body.Set(email(1)); return kmssqlx.Update(t.Context(), e.db, m, c, "*") },
			"Rewrap":              func(c *undeclared) error { return kmssqlx.Rewrap(t.Context(), e.db, m, c) },
			"Rekey":               func(c *undeclared) error { return kmssqlx.Rekey(t.Context(), e.db, m, c) },
		} {
			var c undeclared
			must(t, kmssqlx.Get(t.Context(), e.db, m, &c, "SELECT id, tenant_id, encrypted_kms_key, body_ciphertext FROM "+e.table+" WHERE id = ?", id))
			c.Tenant = "b"
			wantError(t, name, write(&c), kmsencrypted.ErrConfig)
			d.want(t, name, id, "a", email(0))
		}
	}
}
