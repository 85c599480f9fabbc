package kmssqlx_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func containsSecret(text string) bool { return strings.Contains(text, secret) }

// What goes around the package: an unsealed field cannot be written by any way of
// sqlx, and the table's constraint refuses plaintext of other types. That the
// canary sees nothing of it shows where the refusal is made.
func manualWritesAreRefused(t *testing.T, e *env) {
	s := e.customers(t)
	c := s.insert(t, 1)[0]
	c.Email.Set(secret)
	insert := "INSERT INTO " + e.table + " (name, encrypted_kms_key, email_ciphertext) VALUES (:name, :encrypted_kms_key, :email_ciphertext)"
	update := "UPDATE " + e.table + " SET email_ciphertext = :email_ciphertext"
	for what, arg := range map[string]any{
		"struct":         c,
		"pointer":        &c,
		"map":            map[string]any{"name": "n", "encrypted_kms_key": c.Key, "email_ciphertext": c.Email},
		"map of pointer": map[string]any{"name": "n", "encrypted_kms_key": c.Key, "email_ciphertext": &c.Email},
		"slice":          []customer{c, c},
	} {
		_, err := e.db.NamedExecContext(t.Context(), insert, arg)
		wantError(t, "NamedExec INSERT of a "+what, err, kmsencrypted.ErrUnsealed)
		if what == "slice" {
			continue
		}
		_, err = e.db.NamedExecContext(t.Context(), update, arg)
		wantError(t, "NamedExec UPDATE of a "+what, err, kmsencrypted.ErrUnsealed)
	}
	_, err := e.db.ExecContext(t.Context(), e.db.Rebind("UPDATE "+e.table+" SET email_ciphertext = ?"), c.Email)
	wantError(t, "Exec of a field", err, kmsencrypted.ErrUnsealed)
	_, err = e.db.ExecContext(t.Context(), e.db.Rebind("UPDATE "+e.table+" SET email_ciphertext = ?"), field.Of[string]{})
	wantError(t, "Exec of a field that was not read", err, kmsencrypted.ErrNotLoaded)
	// A text of the program's own is no concern of the type; the constraint stops it.
	_, err = e.db.NamedExecContext(t.Context(), update, map[string]any{"email_ciphertext": "plain text"})
	if err == nil {
		t.Error("the constraint let plaintext pass")
	}
	// Sealed by hand, NamedExec is fine.
	must(t, s.Seal(t.Context(), &c))
	must2(t)(e.db.NamedExecContext(t.Context(), update+" WHERE id = :id", c))
	if s.get(t, c.ID).Email.Must() != secret {
		t.Error("a record sealed by hand was written wrong")
	}
}

// Reading around the package gives ciphertext or an error, never silently an
// empty value.
func otherStructs(t *testing.T, e *env) {
	s := e.customers(t)
	c := s.insert(t, 1)[0]
	var closed []customer
	must(t, e.db.Select(&closed, "SELECT * FROM "+e.table))
	if v, err := closed[0].Email.Get(); !errors.Is(err, kmsencrypted.ErrNotOpened) || v != "" {
		t.Errorf("Get of a record that sqlx read: %v, want ErrNotOpened", err)
	}
	var columns []string
	must(t, e.db.Select(&columns, "SELECT email_ciphertext FROM "+e.table))
	if len(columns) != 1 || columns[0] != stored(t, c.Email) {
		t.Errorf("a column by itself = %q, want its ciphertext", columns)
	}
	// Another struct over the same table opens the columns that it declares.
	type contact struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext"`
	}
	k := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: s.kms.Provider()}}}
	m := model[contact](t, e, k)
	var contacts []contact
	must(t, kmssqlx.Select(t.Context(), e.db, m, &contacts, "SELECT id, encrypted_kms_key, email_ciphertext FROM "+e.table))
	if contacts[0].Email.Must() != email(0) {
		t.Error("another struct over the same table reads another value")
	}
	// The same rows under the name of another table do not open.
	elsewhere := *e
	elsewhere.table += "_elsewhere"
	wantError(t, "rows of another table",
		kmssqlx.Select(t.Context(), e.db, model[contact](t, &elsewhere, k), &contacts, "SELECT id, encrypted_kms_key, email_ciphertext FROM "+e.table), kmsencrypted.ErrDecrypt)
	// A ciphertext is never encrypted a second time.
	twice := s.get(t, c.ID)
	twice.Email.Set(stored(t, twice.Email))
	wantError(t, "a ciphertext as a value", kmssqlx.Update(t.Context(), e.db, s.Model, &twice), kmsencrypted.ErrAlreadyEncrypted)
}

// The texts of drivers quote values; those of this package do not.
func errorsHoldNoArguments(t *testing.T, e *env) {
	s := e.customers(t)
	s.insert(t, 1)
	const value = "Lovelace"
	first := customer{Name: value, Email: field.New(email(1))}
	must(t, kmssqlx.Insert(t.Context(), e.db, s.Model, &first))
	second := customer{Name: value, Email: field.New(email(2))}
	var page []customer
	get := func(query string, args ...any) error {
		return kmssqlx.Select(t.Context(), e.db, s.Model, &page, query, args...)
	}
	tooLong := strings.Repeat(value, 100)
	for what, err := range map[string]error{
		"unique violation":  kmssqlx.Insert(t.Context(), e.db, s.Model, &second),
		"wrong type":        get("SELECT * FROM "+e.table+" WHERE id = ? AND nonsense = 1", value),
		"syntax":            get("SELECT * FRO "+e.table+" WHERE name = ?", value),
		"too few arguments": get("SELECT * FROM "+e.table+" WHERE name = ? AND id = ?", value),
		"scan":              get("SELECT name AS id FROM "+e.table+" WHERE name = ?", value),
		"struct argument":   get("SELECT * FROM "+e.table+" WHERE name = ?", struct{ V string }{value}),
		"unknown column":    get("SELECT name AS unknown_column FROM "+e.table+" WHERE name = ?", value),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		if strings.Contains(err.Error(), value) || containsSecret(err.Error()) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Names of tables, columns and constraints are no secrets.
	err := get("SELECT * FROM " + e.table + " WHERE no_such_column = 1")
	if err == nil || !strings.Contains(err.Error(), "no_such_column") {
		t.Errorf("unknown column: %v, want its name", err)
	}
	// The driver's own error is still there for who asks.
	err = kmssqlx.Insert(t.Context(), e.db, s.Model, &second)
	if err == nil || !strings.Contains(err.Error(), "name") {
		t.Errorf("unique violation: %v, want its column or constraint", err)
	}
	if code := driverCode(err); code != map[field.Dialect]string{field.Postgres: "23505", field.MySQL: "1062", field.SQLite: "2067"}[e.dialect] {
		t.Errorf("code of a unique violation = %q in %v", code, err)
	}
	if e.name != "SQLite" { // which has no limit
		second.Name = tooLong
		err := kmssqlx.Insert(t.Context(), e.db, s.Model, &second)
		wantError(t, "too long", err)
		if strings.Contains(err.Error(), value) {
			t.Errorf("too long: %v", err)
		}
	}
}

func driverCode(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return fmt.Sprint(e.Number)
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return fmt.Sprint(e.Code())
	}
	return ""
}

// A hundred writers on fifty rows, each the owner of one column, give first
// keys, update, rewrap and rekey at once. Every row opens at the end, and every
// write that was acknowledged is in it.
func writers(t *testing.T, e *env) {
	_, s := versions(t, e)
	const rows, rounds = 50, 4
	all := make([]customer, rows)
	for i := range all {
		all[i].Name = fmt.Sprint("name", i) // without a key as yet
	}
	must(t, kmssqlx.Insert(t.Context(), e.db, s.Model, field.Pointers(all)...))
	deadline := time.Now().Add(20 * time.Second)
	var wg sync.WaitGroup
	for w := range 2 * rows {
		wg.Go(func() {
			id := all[w/2].ID
			for round := range rounds {
				repeat(t, deadline, func() error { return s.change(t, id, w%2, round) })
				if rand.IntN(2) == 0 {
					repeat(t, deadline, func() error { return s.rotateRow(t, id) })
				}
			}
		})
	}
	wg.Wait()
	var page []customer
	must(t, kmssqlx.Select(t.Context(), e.db, s.Model, &page, "SELECT * FROM "+e.table))
	for _, c := range page {
		if c.Email.Must() != email(rounds-1) || *c.Phone.Must() != email(rounds-1) {
			t.Errorf("%s: a write that was acknowledged is gone", c.Name)
		}
	}
	if len(page) != rows {
		t.Errorf("%d rows, want %d", len(page), rows)
	}
}

// change writes one column of a row.
func (s store) change(t *testing.T, id int64, which, n int) error {
	var c customer
	if err := kmssqlx.Get(t.Context(), s.db, s.Model, &c, "SELECT * FROM "+s.table+" WHERE id = ?", id); err != nil {
		return err
	}
	// This is the only writer of the column, so the column has its last acknowledged value.
	before := c.Email.Must()
	if phone := c.Phone.Must(); which == 1 && phone != nil {
		before = *phone
	} else if which == 1 {
		before = ""
	}
	if want := map[bool]string{true: "", false: email(n - 1)}[n == 0]; before != want {
		t.Errorf("%s: round %d of column %d begins without the write before it", c.Name, n, which)
	}
	if which == 0 {
		c.Email.Set(email(n))
	} else {
		c.Phone.Set(new(email(n)))
	}
	return kmssqlx.Update(t.Context(), s.db, s.Model, &c)
}

// rotateRow rewraps or rekeys a row.
func (s store) rotateRow(t *testing.T, id int64) error {
	var c customer
	if err := kmssqlx.Get(t.Context(), s.db, s.Model, &c, "SELECT * FROM "+s.table+" WHERE id = ?", id); err != nil {
		return err
	}
	if rand.IntN(2) == 0 {
		return kmssqlx.Rewrap(t.Context(), s.db, s.Model, &c)
	}
	return kmssqlx.Rekey(t.Context(), s.db, s.Model, &c)
}

// repeat does what a program does about a conflict.
func repeat(t *testing.T, deadline time.Time, f func() error) {
	for {
		err := f()
		switch {
		case err == nil:
			return
		case !errors.Is(err, kmsencrypted.ErrConflict) || time.Now().After(deadline):
			t.Error(err)
			return
		}
	}
}
