package kmssqlx_test

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// respelling is a text for a column of the encryption context, which may keep another
// one, as a trigger may.
type respelling struct {
	column, tenant string
	kept           bool
	trigger        bool
}

func (e *env) respellings() []respelling {
	all := []respelling{
		{column: "varchar(40)", tenant: "ÄÖ ü", kept: true},
		{column: "varchar(40)", tenant: "kept", kept: true, trigger: true},
		{column: "varchar(40)", tenant: "Changed", trigger: true},
	}
	switch e.name {
	case "Postgres":
		all = append(all, respelling{column: "uuid", tenant: lower, kept: true}, respelling{column: "uuid", tenant: upper},
			respelling{column: "char(40)", tenant: "abc"}, respelling{column: "numeric", tenant: "007"})
	case "MariaDB":
		all = append(all, respelling{column: "uuid", tenant: lower, kept: true}, respelling{column: "uuid", tenant: upper},
			respelling{column: "char(40)", tenant: "abc", kept: true}, respelling{column: "char(40)", tenant: "abc "}, respelling{column: "int", tenant: "007"})
	case "MySQL":
		all = append(all, respelling{column: "char(40)", tenant: "abc "}, respelling{column: "int", tenant: "007"})
	case "SQLite":
		all = append(all, respelling{column: "text COLLATE NOCASE", tenant: upper, kept: true}, respelling{column: "integer", tenant: "007"})
	}
	return all
}

// lowersTenants adds triggers that make the tenants of a table small letters.
func (e *env) lowersTenants(t *testing.T) {
	t.Helper()
	var triggers []string
	switch e.dialect {
	case field.Postgres:
		triggers = []string{
			"CREATE FUNCTION " + e.table + "_lower() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tenant_id := lower(NEW.tenant_id); RETURN NEW; END $$",
			"CREATE TRIGGER lowers BEFORE INSERT OR UPDATE ON " + e.table + " FOR EACH ROW EXECUTE FUNCTION " + e.table + "_lower()",
		}
	case field.MySQL:
		for _, what := range []string{"INSERT", "UPDATE"} {
			triggers = append(triggers, "CREATE TRIGGER "+e.table+what+" BEFORE "+what+" ON "+e.table+" FOR EACH ROW SET NEW.tenant_id = lower(NEW.tenant_id)")
		}
	case field.SQLite:
		for _, what := range []string{"INSERT", "UPDATE"} {
			triggers = append(triggers, "CREATE TRIGGER "+e.table+what+" AFTER "+what+" ON "+e.table+" BEGIN UPDATE "+e.table+" SET tenant_id = lower(tenant_id) WHERE id = NEW.id; END")
		}
	}
	for _, trigger := range triggers {
		_, err := e.db.Exec(trigger)
		must(t, err)
	}
}

// contextsInAnotherSpelling: a row whose context the database spells otherwise would
// never open.
func contextsInAnotherSpelling(t *testing.T, e *env) {
	for i, r := range e.respellings() {
		for k, id := range []struct {
			column string
			given  int64
			omit   bool // nothing depends on it
		}{{e.id, 0, false}, {e.otherID, 0, false}, {e.otherID, 0, true}, {e.otherID, 7, false}} {
			at := *e
			at.table, at.id = fmt.Sprintf("%s_%d_%d", e.table, i, k), id.column
			d := at.documentsWith(t, false, id.omit, r.column)
			if r.trigger {
				at.lowersTenants(t)
			}
			for n := 1; n <= 2; n++ {
				d.insertsAs(t, r, id.given, n)
			}
			d.movesTo(t, r)
		}
	}
}

// insertsAs inserts n records, the last of the tenant.
func (d documents) insertsAs(t *testing.T, r respelling, id int64, n int) {
	t.Helper()
	what := fmt.Sprintf("%d records of %q into %s with id %d", n, r.tenant, r.column, id)
	rows := make([]document, n)
	for i := range rows {
		rows[i] = document{ID: id, Tenant: d.other(r), Body: field.New(email(i))}
		if id > 0 {
			rows[i].ID += int64(i)
		}
	}
	rows[n-1].Tenant = r.tenant
	for name, insert := range map[string]func() error{
		"Insert": func() error { return kmssqlx.Insert(t.Context(), d.db, d.Model, field.Pointers(rows)...) },
		"Insert in a transaction": func() error {
			return d.goesOn(t, func(tx kmssqlx.Ext) error { return kmssqlx.Insert(t.Context(), tx, d.Model, field.Pointers(rows)...) })
		},
	} {
		err := insert()
		d.wantAll(t, name+" of "+what, map[bool]int{true: n}[r.kept])
		d.db.MustExec("DELETE FROM " + d.table)
		if r.kept {
			must(t, err)
			for i := range rows {
				rows[i].ID = map[bool]int64{true: id + int64(i)}[id > 0]
			}
			continue
		}
		wantError(t, name+" of "+what, err, kmsencrypted.ErrLossy)
		if failures, ok := errors.AsType[field.Failures](err); n > 1 && (!ok || failures[0].Index != n-1) {
			t.Errorf("%s of %s: %v does not name record %d", name, what, err, n-1)
		}
	}
}

// goesOn does something in a transaction that is committed whatever became of it.
func (e *env) goesOn(t *testing.T, do func(kmssqlx.Ext) error) error {
	t.Helper()
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	err = do(tx)
	must(t, tx.Commit())
	return err
}

// other is a tenant that the column keeps.
func (d documents) other(r respelling) string {
	switch r.column {
	case "uuid":
		return lower
	case "int", "integer", "numeric":
		return "5"
	case "char(40)":
		if d.dialect == field.Postgres {
			return fmt.Sprintf("%-40s", "a")
		}
	}
	return "a"
}

// wantAll wants so many rows, which a fresh process opens.
func (d documents) wantAll(t *testing.T, what string, n int) {
	t.Helper()
	var read []document
	must(t, kmssqlx.Select(t.Context(), d.db, model[document](t, d.env, d.config), &read, "SELECT * FROM "+d.table))
	if len(read) != n {
		t.Errorf("%s: %d rows, want %d", what, len(read), n)
	}
}

// movesTo moves a record to the tenant.
func (d documents) movesTo(t *testing.T, r respelling) {
	t.Helper()
	for name, write := range map[string]func(kmssqlx.Ext, *document) error{
		"Update": func(db kmssqlx.Ext, c *document) error {
			return kmssqlx.Update(t.Context(), db, d.Model, c, "tenant_id")
		},
		"Update of a body": func(db kmssqlx.Ext, c *document) error {
			c.Body.Set(email(3))
			return kmssqlx.Update(t.Context(), db, d.Model, c)
		},
		"Rewrap": func(db kmssqlx.Ext, c *document) error { return kmssqlx.Rewrap(t.Context(), db, d.Model, c) },
		"Rekey":  func(db kmssqlx.Ext, c *document) error { return kmssqlx.Rekey(t.Context(), db, d.Model, c) },
	} {
		for _, goesOn := range []bool{false, true} {
			what := fmt.Sprintf("%s to %q in %s, in a transaction: %t", name, r.tenant, r.column, goesOn)
			c := document{Tenant: d.other(r), Body: field.New(email(0))}
			must(t, kmssqlx.Insert(t.Context(), d.db, d.Model, &c))
			c = d.get(t, c.ID)
			c.Tenant = r.tenant
			var err error
			if goesOn {
				err = d.goesOn(t, func(tx kmssqlx.Ext) error { return write(tx, &c) })
			} else {
				err = write(d.db, &c)
			}
			now := d.get(t, c.ID)
			if r.kept {
				must(t, err)
			} else {
				wantError(t, what, err, kmsencrypted.ErrLossy)
				if now.Tenant != d.other(r) || now.Body.Must() != email(0) {
					t.Errorf("%s: refused, and the row is of tenant %q", what, now.Tenant)
				}
				c.Tenant = d.other(r) // the record may be written after that
				must(t, write(d.db, &c))
				now = d.get(t, c.ID)
			}
			if want := c.Body.Must(); now.Tenant != c.Tenant || now.Body.Must() != want {
				t.Errorf("%s: the row is of tenant %q, want %q", what, now.Tenant, c.Tenant)
			}
			d.db.MustExec("DELETE FROM " + d.table)
		}
	}
}

// A column of the context that only the database fills has to have what the record has.
func contextOfTheDatabase(t *testing.T, e *env) {
	type document struct {
		ID     int64            `db:"id"`
		Tenant int64            `db:"tenant_id,returned" kms:"context"`
		Key    field.Key        `db:"encrypted_kms_key"`
		Body   field.Of[string] `db:"body_ciphertext"`
	}
	m := model[document](t, e, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {
		Provider: kmstest.Memory(),
		Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"tenant": s.Record.(*document).Tenant}, nil
		},
	}}})
	createTable(t, e, m, "id "+e.id+", tenant_id int NOT NULL DEFAULT 5")
	for tenant, want := range map[int64]error{5: nil, 0: kmsencrypted.ErrLossy} {
		c := document{Tenant: tenant, Body: field.New(email(0))}
		err := kmssqlx.Insert(t.Context(), e.db, m, &c)
		if !errors.Is(err, want) {
			t.Errorf("Insert for tenant %d: %v, want %v", tenant, err, want)
		}
		var read []document
		must(t, kmssqlx.Select(t.Context(), e.db, m, &read, "SELECT * FROM "+e.table))
		if len(read) != map[bool]int{true: 1}[want == nil] {
			t.Errorf("Insert for tenant %d: %d rows", tenant, len(read))
		}
		e.db.MustExec("DELETE FROM " + e.table)
	}
}

// associatedDataInAnotherSpelling: a Lockbox column opens with the text of another one.
func associatedDataInAnotherSpelling(t *testing.T, e *env) {
	type customer struct {
		ID    int64            `db:"id"`
		Name  string           `db:"name"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext" kms:"lockbox,ad=Name"`
	}
	for name, format := range map[string]kmsencrypted.Format{"native": kmsencrypted.Native, "ruby": kmsencrypted.Ruby} {
		own := *e
		own.table += name
		m := model[customer](t, &own, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory(), Format: format}}})
		createTable(t, &own, m, "id "+e.id+", name char(20)")
		given, other := "abc ", "abc"
		if e.dialect == field.Postgres {
			given, other = "abc", fmt.Sprintf("%-20s", "abc")
		}
		lossy := format == kmsencrypted.Ruby && e.dialect != field.SQLite // whose char keeps everything
		err := kmssqlx.Insert(t.Context(), e.db, m, &customer{Name: given, Email: field.New(email(0))})
		if lossy {
			wantError(t, name, err, kmsencrypted.ErrLossy)
		} else {
			must(t, err)
		}
		c := customer{Name: other, Email: field.New(email(1))}
		must(t, kmssqlx.Insert(t.Context(), e.db, m, &c))
		c.Name = given
		if err := kmssqlx.Update(t.Context(), e.db, m, &c, "name"); lossy {
			wantError(t, name, err, kmsencrypted.ErrLossy)
		} else {
			must(t, err)
		}
		var read []customer
		must(t, kmssqlx.Select(t.Context(), e.db, m, &read, "SELECT * FROM "+own.table))
		if want := map[bool]int{true: 1, false: 2}[lossy]; len(read) != want {
			t.Errorf("%s: %d rows, want %d", name, len(read), want)
		}
	}
}

// updateBesideTriggers: MariaDB and MySQL do not say of a table with triggers whether an
// UPDATE found a row.
func updateBesideTriggers(t *testing.T, e *env) {
	d := e.documents(t, false)
	e.lowersTenants(t)
	c := d.insert(t)
	stale := d.get(t, c.ID)
	c.Body.Set(email(1))
	must(t, kmssqlx.Update(t.Context(), e.db, d.Model, &c))
	d.want(t, "updated", c.ID, "a", email(1))
	c.Notes.Set(email(2))
	e.retried(t, false, func(db kmssqlx.Ext) error { return kmssqlx.Update(t.Context(), db, d.Model, &c, "title") })
	for range 2 { // sent again after the commit; then nothing changes
		must(t, kmssqlx.Update(t.Context(), e.db, d.Model, &c, "title"))
	}
	must(t, kmssqlx.Rekey(t.Context(), e.db, d.Model, &c))
	d.want(t, "updated again", c.ID, "a", email(1))
	stale.Body.Set(email(3))
	wantError(t, "a stale update", kmssqlx.Update(t.Context(), e.db, d.Model, &stale, "title"), kmsencrypted.ErrConflict)
	gone := document{ID: 99, Tenant: "a", Title: "x", Body: field.New(email(0))}
	wantError(t, "an update of none", kmssqlx.Update(t.Context(), e.db, d.Model, &gone, "title"), sql.ErrNoRows)
	d.want(t, "not updated", c.ID, "a", email(1))
}

// insertManyRefused: after an insert of many statements that was refused, a transaction
// that goes on has none of the rows.
func insertManyRefused(t *testing.T, e *env) {
	s := e.customers(t)
	rows := make([]customer, 9000) // several statements
	for i := range rows {
		rows[i] = customer{ID: int64(i + 1), Name: fmt.Sprintf("name%d", i)}
	}
	rows[len(rows)-1].Name = "name0" // which is unique
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	err = kmssqlx.Insert(t.Context(), tx, s.Model, field.Pointers(rows)...)
	wantError(t, "Insert", err)
	if failures, ok := errors.AsType[field.Failures](err); !ok || failures[0].Index != len(rows)-1 {
		t.Errorf("the error names no record: %.200v", err)
	}
	must(t, tx.Commit())
	if n := s.count(t); n != 0 {
		t.Errorf("%d rows after an insert that was refused", n)
	}
}
