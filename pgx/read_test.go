package kmspgx_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
)

func collectNothing(t *testing.T, e *env) {
	s := e.customers(t)
	rows, _ := kmspgx.Query(t.Context(), e.db, "SELECT * FROM "+e.table)
	if list, err := kmspgx.CollectRows(t.Context(), rows, s.Model); err != nil || len(list) != 0 {
		t.Errorf("CollectRows = %d rows, %v", len(list), err)
	}
	for _, args := range [][]any{{int64(7)}, {s.Lookup("Email", email(0))}} {
		where := map[bool]string{true: "id = $1", false: "email_bidx = ANY($1)"}[args[0] == any(int64(7))]
		rows, _ = kmspgx.Query(t.Context(), e.db, "SELECT * FROM "+e.table+" WHERE "+where, args...)
		if _, err := kmspgx.CollectOneRow(t.Context(), rows, s.Model); err != pgx.ErrNoRows {
			t.Errorf("CollectOneRow = %v, want pgx.ErrNoRows itself", err)
		}
	}
}

// The records that open are there, and each failure is named.
func collectDamaged(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 3)
	e.exec(t, fmt.Sprintf("UPDATE %s SET encrypted_kms_key = (SELECT encrypted_kms_key FROM %[1]s WHERE id = %d) WHERE id = %d", e.table, all[0].ID, all[1].ID))
	rows, _ := e.db.Query(t.Context(), "SELECT * FROM "+e.table+" ORDER BY id")
	list, err := kmspgx.CollectRows(t.Context(), rows, s.Model)
	wantError(t, "a damaged row", err)
	if len(list) != 3 || list[0].Email.Must() != email(0) || list[2].Email.Must() != email(2) {
		t.Errorf("%d records", len(list))
	}
	if want := fmt.Sprintf("%s id=%d", e.table, all[1].ID); err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not name %s", err, want)
	}
	rows, _ = e.db.Query(t.Context(), "SELECT * FROM "+e.table+" WHERE id = $1", all[1].ID)
	c, err := kmspgx.CollectOneRow(t.Context(), rows, s.Model)
	wantError(t, "a damaged row alone", err)
	if c.Name != "name1" {
		t.Error("the record that does not open was not returned")
	}
}

// Columns that were not read stay closed, and are not overwritten.
func partialRead(t *testing.T, e *env) {
	s := e.customers(t)
	all := newCustomers(1)
	all[0].Phone = field.New(new("phone@" + secret))
	must(t, kmspgx.Insert(t.Context(), e.db, s.Model, &all[0]))
	id := all[0].ID
	read := func(columns string) (customer, error) {
		rows, _ := e.db.Query(t.Context(), "SELECT "+columns+" FROM "+e.table+" WHERE id = $1", id)
		return kmspgx.CollectOneRow(t.Context(), rows, s.Model)
	}
	c, err := read("id, encrypted_kms_key, email_ciphertext, email_bidx")
	must(t, err)
	if _, err := c.Phone.Get(); c.Email.Must() != email(0) || c.Name != "" || err == nil {
		t.Errorf("a partial read: %v, %v", c.Name, err)
	}
	c.Email.Set(email(1))
	must(t, kmspgx.Update(t.Context(), e.db, s.Model, &c))
	if got := s.get(t, id); got.Email.Must() != email(1) || *got.Phone.Must() != "phone@"+secret || got.Name != "name0" {
		t.Error("a partial read and an update lost a column")
	}
	_, err = read("id, email_ciphertext")
	wantError(t, "a read without the key column", err, kmsencrypted.ErrNotLoaded)
	// A column that the struct does not have is an error of pgx, as with pgx itself.
	_, err = read("id, 1 AS nonsense")
	wantError(t, "a read of a column without a field", err)
}

func lookups(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 3)
	where := "WHERE email_bidx = ANY($1) ORDER BY id"
	if got := collect(t, e, s.Model, where, s.Lookup("Email", strings.ToUpper(email(1)))); len(got) != 1 || got[0].Email.Must() != email(1) {
		t.Errorf("%d hits, want one", len(got))
	}
	if got := collect(t, e, s.Model, where, s.Lookup("Email", email(0), email(2), email(9))); len(got) != 2 || got[1].ID != all[2].ID {
		t.Errorf("%d hits, want two", len(got))
	}
	for _, named := range []any{pgx.NamedArgs{"email": s.Lookup("Email", email(2))}, pgx.StrictNamedArgs{"email": s.Lookup("Email", email(2))}} {
		rows, _ := kmspgx.Query(t.Context(), e.db, "SELECT * FROM "+e.table+" WHERE email_bidx = ANY(@email)", named)
		if c, err := kmspgx.CollectOneRow(t.Context(), rows, s.Model); err != nil || c.ID != all[2].ID {
			t.Errorf("a lookup in %T: id %d, %v", named, c.ID, err)
		}
	}
	// Somebody gave a row the index of another.
	e.exec(t, fmt.Sprintf("UPDATE %s SET email_bidx = (SELECT email_bidx FROM %[1]s WHERE id = %d) WHERE id = %d", e.table, all[2].ID, all[0].ID))
	if got := collect(t, e, s.Model, where, s.Lookup("Email", email(2))); len(got) != 1 || got[0].ID != all[2].ID {
		t.Errorf("%d hits beside a false one", len(got))
	}
	rows, _ := kmspgx.Query(t.Context(), e.db, "SELECT * FROM "+e.table+" "+where, s.Lookup("Email", email(2)))
	if c, err := kmspgx.CollectOneRow(t.Context(), rows, s.Model); err != nil || c.ID != all[2].ID {
		t.Errorf("CollectOneRow took the false hit: id %d, %v", c.ID, err)
	}
	rows, _ = kmspgx.Query(t.Context(), e.db, "SELECT id, encrypted_kms_key FROM "+e.table+" "+where, s.Lookup("Email", email(2)))
	_, err := kmspgx.CollectRows(t.Context(), rows, s.Model)
	wantError(t, "a lookup whose hits cannot be checked", err, kmsencrypted.ErrNotLoaded)

	for what, l := range map[string]field.Lookup{
		"NULL": s.Lookup("Email", nil), "nonsense": s.Lookup("Nonsense", 1), "a zero Lookup": {},
	} {
		rows, err := kmspgx.Query(t.Context(), e.db, "SELECT * FROM "+e.table+" "+where, l)
		wantError(t, "Query with "+what, err, kmsencrypted.ErrConfig)
		_, err = kmspgx.CollectRows(t.Context(), rows, s.Model)
		wantError(t, "CollectRows with "+what, err, kmsencrypted.ErrConfig)
	}
}

func lookupOfBytes(t *testing.T, e *env) {
	type user struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext"`
		Index field.Index      `db:"email_bidx" kms:"of=Email,algorithm=hmac_sha256,binary"`
	}
	m := model[user](t, e, oneKey())
	createTable(t, e, m, identity)
	all := []user{{Email: field.New(email(0))}, {Email: field.New(email(1))}}
	must(t, kmspgx.Insert(t.Context(), e.db, m, field.Pointers(all)...))
	if got := collect(t, e, m, "WHERE email_bidx = ANY($1)", m.Lookup("Email", email(1), email(2))); len(got) != 1 || got[0].ID != all[1].ID {
		t.Errorf("%d hits, want one", len(got))
	}
}

// An error of the database names the table, column or constraint, and no value.
func errorsHoldNoValues(t *testing.T, e *env) {
	s := e.customers(t)
	c := s.insert(t, 1)[0]
	twice := customer{Name: c.Name, Email: field.New(email(1))}
	for what, f := range map[string]func() error{
		"Insert":   func() error { return kmspgx.Insert(t.Context(), e.db, s.Model, &twice) },
		"CopyFrom": func() error { return kmspgx.CopyFrom(t.Context(), e.db, s.Model, &twice) },
		"Batch": func() error {
			var b kmspgx.Batch
			kmspgx.QueueInsert(&b, s.Model, &twice)
			return b.Send(t.Context(), e.db)
		},
	} {
		err := f()
		wantError(t, what, err)
		if text := err.Error(); !strings.Contains(text, e.table+"_name_key") || strings.Contains(text, "name0") {
			t.Errorf("%s: %v, want the name of the constraint and no value", what, err)
		}
	}
	for what, query := range map[string]string{
		"a value of another type": "SELECT * FROM " + e.table + " WHERE id = $1",
		"a failed conversion":     "SELECT * FROM " + e.table + " WHERE $1::text::int = 1",
		"a division":              "SELECT 1 / 0 AS id, $1::text AS name",
	} {
		rows, _ := kmspgx.Query(t.Context(), e.db, query, "nonsense value")
		_, err := kmspgx.CollectRows(t.Context(), rows, s.Model)
		wantError(t, what, err)
		if strings.Contains(err.Error(), "nonsense") {
			t.Errorf("%s: %v holds the argument", what, err)
		}
	}
	rows, _ := e.db.Query(t.Context(), "SELECT * FROM "+e.table+" WHERE id = $1", "nonsense value")
	_, err := kmspgx.CollectRows(t.Context(), rows, s.Model)
	wantError(t, "a query of pgx itself", err)
	if strings.Contains(err.Error(), "nonsense") {
		t.Errorf("%v holds the argument", err)
	}
}

// An unsealed field cannot be written by pgx itself, and a string is refused by
// the table's constraint.
func unsealed(t *testing.T, e *env) {
	s := e.customers(t)
	c := s.insert(t, 1)[0]
	c.Email.Set(secret)
	_, err := e.db.Exec(t.Context(), "UPDATE "+e.table+" SET email_ciphertext = $1", c.Email)
	wantError(t, "Exec", err, kmsencrypted.ErrUnsealed)
	_, err = e.db.Exec(t.Context(), "UPDATE "+e.table+" SET email_ciphertext = @e", pgx.NamedArgs{"e": &c.Email})
	wantError(t, "Exec with names", err, kmsencrypted.ErrUnsealed)
	_, err = e.db.CopyFrom(t.Context(), pgx.Identifier{e.table}, []string{"name", "email_ciphertext"}, pgx.CopyFromRows([][]any{{"x", c.Email}}))
	wantError(t, "CopyFrom of pgx", err)
	_, err = e.db.Exec(t.Context(), "UPDATE "+e.table+" SET email_ciphertext = $1", "in the clear, of some length, and not sealed")
	wantError(t, "a string", err)
	if err != nil && !strings.Contains(err.Error(), e.table+"_encrypted") {
		t.Errorf("a string: %v, want a violation of the constraint", err)
	}
	if got := s.get(t, c.ID); got.Email.Must() != email(0) {
		t.Error("something was written")
	}
	if text := fmt.Sprintf("%v %+v", c, c); strings.Contains(text, secret) {
		t.Error("a record prints its plaintext")
	}
}

func nilArguments(t *testing.T, e *env) {
	s := e.customers(t)
	var none *field.Model[customer]
	c := &customer{}
	var b, nilRecord, nilModel kmspgx.Batch
	kmspgx.QueueInsert(&nilRecord, s.Model, nil)
	kmspgx.QueueUpdate(&nilModel, none, c)
	rows, err := kmspgx.Query(t.Context(), nil, "SELECT 1")
	wantError(t, "Query", err, kmsencrypted.ErrConfig)
	_, readErr := kmspgx.CollectOneRow(t.Context(), rows, s.Model)
	_, nilRows := kmspgx.CollectRows(t.Context(), nil, s.Model)
	selected, _ := e.db.Query(t.Context(), "SELECT 1")
	_, rowsOfNothing := kmspgx.CollectRows(t.Context(), selected, none)
	for what, err := range map[string]error{
		"nil database":           kmspgx.Insert(t.Context(), nil, s.Model, c),
		"nil pool":               kmspgx.Update(t.Context(), (*pgxpool.Pool)(nil), s.Model, c),
		"nil model":              kmspgx.Delete(t.Context(), e.db, none, c),
		"nil record":             kmspgx.CopyFrom(t.Context(), e.db, s.Model, nil),
		"nil database of batch":  b.Send(t.Context(), nil),
		"nil record in a batch":  nilRecord.Send(t.Context(), e.db),
		"nil model in a batch":   nilModel.Send(t.Context(), e.db),
		"rows of a nil database": readErr,
		"nil rows":               nilRows,
		"rows and no model":      rowsOfNothing,
	} {
		wantError(t, what, err, kmsencrypted.ErrConfig)
	}
	must(t, kmspgx.Insert(t.Context(), e.db, s.Model))
	must(t, kmspgx.CopyFrom(t.Context(), e.db, s.Model))
}

// calls is how many calls to a key service f makes.
func calls(k *kmstest.Service, f func()) (wraps, unwraps int) {
	wraps, unwraps = k.Count(kmsencrypted.OpWrap), k.Count(kmsencrypted.OpUnwrap)
	f()
	return k.Count(kmsencrypted.OpWrap) - wraps, k.Count(kmsencrypted.OpUnwrap) - unwraps
}
