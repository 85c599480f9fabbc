package kmssqlx_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// spelled is an id that a program makes itself.
type spelled struct {
	ID   string           `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key"`
	Card field.Of[string] `db:"card"`
}

const lower, upper = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12"

// spellings are ids of which a database keeps the spelling, or does not.
func (e *env) spellings() []spelling {
	all := []spelling{{"varchar(40)", upper, true}, {"varchar(40)", "ÄÖ ü", true}}
	switch e.name {
	case "Postgres":
		all = append(all, spelling{"uuid", lower, true}, spelling{"uuid", upper, false}, spelling{"char(10)", "abc", false}, spelling{"char(3)", "abc", true})
	case "MariaDB":
		all = append(all, spelling{"uuid", lower, true}, spelling{"uuid", upper, false}, spelling{"char(10)", "abc", true}, spelling{"char(10)", "abc ", false}, spelling{"int", "007", false})
	case "MySQL":
		all = append(all, spelling{"char(10)", "abc", true}, spelling{"char(10)", "abc ", false}, spelling{"int", "007", false})
	case "SQLite":
		all = append(all, spelling{"integer", "007", false}, spelling{"integer", "7", true})
	}
	return all
}

type spelling struct {
	column, id string
	kept       bool
}

// A row whose id the database spells otherwise would never open.
func idsInAnotherSpelling(t *testing.T, e *env) {
	table := e.table
	for i, s := range e.spellings() {
		own := *e
		own.table = fmt.Sprintf("%s_%d", table, i)
		m := model[spelled](t, &own, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}}})
		createTable(t, &own, m, "id "+s.column+" PRIMARY KEY")
		own.inserts(t, m, s)
		own.updates(t, m, s)
	}
}

func (e *env) inserts(t *testing.T, m *field.Model[spelled], s spelling) {
	insert := func(what string, db kmssqlx.Ext, rows ...*spelled) {
		t.Helper()
		what = fmt.Sprintf("%s of %q into %s", what, s.id, s.column)
		err := kmssqlx.Insert(t.Context(), db, m, rows...)
		if s.kept {
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		} else {
			wantError(t, what, err, kmsencrypted.ErrLossy)
		}
	}
	check := func(what string) {
		t.Helper()
		var read []spelled
		must(t, kmssqlx.Select(t.Context(), e.db, m, &read, "SELECT * FROM "+e.table))
		if (len(read) > 0) != s.kept {
			t.Errorf("%s of %q into %s: %d rows", what, s.id, s.column, len(read))
		}
		for _, row := range read {
			if row.Card.Must() != secret {
				t.Errorf("%s: read back another value", what)
			}
		}
		e.db.MustExec("DELETE FROM " + e.table)
	}
	db := e.recorder()
	insert("insert", db, &spelled{ID: s.id, Card: field.New(secret)})
	if want := map[bool]int{false: 1, true: 2}[e.name == "MySQL"]; s.kept && len(db.sent) != want {
		t.Errorf("insert sent %q, want %d statements", db.sent, want)
	}
	check("insert")
	other := map[bool]string{false: "8", true: lower[:35] + "3"}[s.column == "uuid"]
	if s.column != "char(3)" && s.column != "char(10)" {
		insert("insert of two", e.db, &spelled{ID: s.id, Card: field.New(secret)}, &spelled{ID: other, Card: field.New(secret)})
		check("insert of two")
	}
	tx, err := e.db.BeginTxx(t.Context(), nil)
	must(t, err)
	insert("insert in a transaction", tx, &spelled{ID: s.id, Card: field.New(secret)})
	must(t, tx.Commit())
	check("insert in a transaction")
}

// A record that was never read gives a row its first key.
func (e *env) updates(t *testing.T, m *field.Model[spelled], s spelling) {
	e.db.MustExec(e.db.Rebind("INSERT INTO "+e.table+" (id) VALUES (?)"), s.id)
	row := &spelled{ID: s.id, Card: field.New(secret)}
	err := kmssqlx.Update(t.Context(), e.db, m, row)
	what := fmt.Sprintf("update of %q in %s", s.id, s.column)
	switch {
	case !e.finds(t, s.id):
		wantError(t, what, err, sql.ErrNoRows)
	case !s.kept && s.id != "abc": // PostgreSQL pads what it compares
		wantError(t, what, err, kmsencrypted.ErrLossy)
	}
	if s.kept && err != nil {
		t.Errorf("%s: %v", what, err)
	}
	var read []spelled
	must(t, kmssqlx.Select(t.Context(), e.db, m, &read, "SELECT * FROM "+e.table))
	if len(read) != 1 || read[0].Key.IsNull() == s.kept {
		t.Errorf("%s: %d rows, key NULL = %v", what, len(read), read[0].Key.IsNull())
	}
	if s.kept && err == nil { // in a case that the database takes for the same
		row.Card.Set(secret)
		must(t, kmssqlx.Update(context.Background(), e.db, m, row))
	}
	e.db.MustExec("DELETE FROM " + e.table)
}

// finds reports whether the database finds a row by the id that it was inserted with.
// The collations of MySQL 8 do not: they pad nothing, and char(n) drops spaces.
func (e *env) finds(t *testing.T, id string) bool {
	t.Helper()
	var n int
	must(t, e.db.Get(&n, e.db.Rebind("SELECT count(*) FROM "+e.table+" WHERE id = ?"), id))
	return n > 0
}

// Where nothing depends on the id, its spelling does not matter if the database finds
// the row by it.
func idsThatNothingDependsOn(t *testing.T, e *env) {
	m := model[spelled](t, e, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {
		Provider: kmstest.Memory(), OmitID: true,
		Context: func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"table": "cards"}, nil
		},
	}}})
	createTable(t, e, m, "id char(10) PRIMARY KEY")
	err := kmssqlx.Insert(t.Context(), e.db, m, &spelled{ID: "abc ", Card: field.New(secret)})
	e.db.MustExec("INSERT INTO " + e.table + " (id) VALUES ('def ')")
	if !e.finds(t, "def ") {
		wantError(t, "insert", err, kmsencrypted.ErrLossy)
		return
	}
	must(t, err)
	e.db.MustExec("DELETE FROM " + e.table + " WHERE id = 'def '")
	var read []spelled
	must(t, kmssqlx.Select(t.Context(), e.db, m, &read, "SELECT * FROM "+e.table))
	if len(read) != 1 || read[0].Card.Must() != secret {
		t.Errorf("%d rows", len(read))
	}
}

// cardOf belongs to a tenant, which its key is wrapped for.
type cardOf struct {
	ID     int64            `db:"id"`
	Tenant string           `db:"tenant" kms:"context"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Card   field.Of[string] `db:"card"`
}

// A server that may not decrypt, and reads by sqlx itself, knows the tenant of a row only from
// the program. A column of UUIDs equals that in another spelling, for which the row would
// not open.
func keysReplacedInAnotherSpelling(t *testing.T, e *env) {
	want, hasUUIDs := map[string]error{"Postgres": kmsencrypted.ErrLossy, "MariaDB": kmsencrypted.ErrConflict}[e.name]
	if !hasUUIDs {
		return
	}
	provider := kmstest.Memory()
	modelOf := func(encryptOnly bool) *field.Model[cardOf] {
		box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {
			Provider: provider, EncryptOnly: encryptOnly,
			Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
				return kmsencrypted.Context{"tenant": s.Record.(*cardOf).Tenant}, nil
			},
		}}}.Box()
		must(t, err)
		m, err := field.NewModel[cardOf](box, field.Config{Table: e.table, Complete: true})
		must(t, err)
		return m
	}
	m, writer := modelOf(false), modelOf(true)
	createTable(t, e, m, "id bigint PRIMARY KEY", "tenant uuid")
	must(t, kmssqlx.Insert(t.Context(), e.db, m, &cardOf{ID: 1, Tenant: lower, Card: field.New("before")}))
	read := func() (row cardOf) {
		t.Helper()
		must(t, e.db.Get(&row, "SELECT id, tenant, encrypted_kms_key, card FROM "+e.table))
		return row
	}
	for _, tenant := range []string{strings.ToUpper(lower), lower} {
		row := read()
		row.Tenant = tenant
		row.Card.Set(secret)
		err := kmssqlx.Update(t.Context(), e.db, writer, &row)
		if tenant == lower {
			must(t, err)
		} else {
			wantError(t, "update under "+tenant, err, want)
		}
		now := read()
		must(t, m.Open(t.Context(), &now))
		if want := map[bool]string{true: secret, false: "before"}[tenant == lower]; now.Card.Must() != want {
			t.Errorf("after an update under %s the row has another value", tenant)
		}
	}
}
