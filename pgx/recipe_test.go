package kmspgx_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// Customer has a text column, a column of bytes and one that may be NULL.
type Customer struct {
	ID    int64             `db:"id"`
	Name  string            `db:"name"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Email field.Of[string]  `db:"email_ciphertext"`
	Photo field.Of[[]byte]  `db:"photo_ciphertext" kms:"binary"`
	Phone field.Of[*string] `db:"phone_ciphertext"`
}

// connect makes the table on a fresh database. Its constraint refuses plaintext.
func connect(t *testing.T) (*pgx.Conn, *field.Model[Customer]) {
	t.Helper()
	key, err := local.Create(filepath.Join(t.TempDir(), "keys.txt"))
	must(t, err)
	box, err := kmsencrypted.NewBox(key)
	must(t, err)
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
	must(t, err)
	columns, err := customers.DDL(field.Postgres)
	must(t, err)
	wall, err := customers.CheckConstraint(field.Postgres)
	must(t, err)

	config, err := pgx.ParseConfig(dbserver.Postgres(t))
	must(t, err)
	config.Tracer = canary{t}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), "CREATE TABLE customers (id bigserial PRIMARY KEY, name text, "+strings.Join(columns, ", ")+", "+wall+")")
	must(t, err)
	return conn, customers
}

// canary fails the test when an encrypted value of people is an argument of a
// query or of a batch. [kmstest.Canary] does it for database/sql.
type canary struct{ *testing.T }

func (c canary) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	c.check(q.SQL, q.Args)
	return ctx
}

func (c canary) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c canary) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (c canary) TraceBatchQuery(_ context.Context, _ *pgx.Conn, q pgx.TraceBatchQueryData) {
	c.check(q.SQL, q.Args)
}

func (c canary) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (c canary) check(sql string, args []any) {
	for i, arg := range args {
		if v, ok := arg.(driver.Valuer); ok {
			value, err := v.Value()
			if err != nil {
				continue // nothing is sent
			}
			arg = value
		}
		text := fmt.Sprintf("%s", arg)
		for _, secret := range []string{"ada@example.net", "ada@example.org", "grace@example.org", "\xff\xd8", "7946 0958"} {
			// One test writes plaintext on purpose, to see it refused.
			if strings.Contains(text, secret) && c.Name() != "TestPlaintextPostgres" {
				c.Errorf("plaintext in argument %d of %s", i+1, sql)
			}
		}
	}
}

// The id is taken from the sequence first, because the data key is bound to it.
func nextIDs(ctx context.Context, conn *pgx.Conn, n int) ([]int64, error) {
	rows, _ := conn.Query(ctx, "SELECT nextval(pg_get_serial_sequence('customers', 'id')) FROM generate_series(1, $1)", n)
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

const insertCustomer = `INSERT INTO customers (id, name, encrypted_kms_key, email_ciphertext, photo_ciphertext, phone_ciphertext)
	VALUES ($1, $2, $3, $4, $5, $6)`

func values(c *Customer) []any {
	return []any{c.ID, c.Name, c.Key, c.Email, c.Photo, c.Phone}
}

// prepare gives new records ids and seals them.
func prepare(ctx context.Context, conn *pgx.Conn, customers *field.Model[Customer], list []Customer) error {
	ids, err := nextIDs(ctx, conn, len(list))
	if err != nil {
		return err
	}
	for i, id := range ids {
		list[i].ID = id
	}
	return customers.SealNew(ctx, field.Pointers(list)...)
}

// find reads records and opens all of them at once.
func find(ctx context.Context, conn *pgx.Conn, customers *field.Model[Customer], query string, args ...any) ([]Customer, error) {
	rows, _ := conn.Query(ctx, query, args...)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Customer])
	if err != nil {
		return nil, err
	}
	return list, customers.Open(ctx, field.Pointers(list)...)
}

// update writes what was set in a record, if nobody else changed it since it was
// read. A record that was only rewrapped meanwhile is tried once more.
func update(ctx context.Context, conn *pgx.Conn, customers *field.Model[Customer], c *Customer) error {
	if err := customers.Seal(ctx, c); err != nil {
		return err
	}
	for range 2 {
		w, err := customers.Adapter().Write(c)
		if err != nil || len(w.Set) == 0 {
			return err
		}
		sql, args := updateSQL(w, c.ID)
		tag, err := conn.Exec(ctx, sql, args...)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 1 {
			customers.Adapter().Saved(c)
			return nil
		}
		var now any
		if err := conn.QueryRow(ctx, "SELECT encrypted_kms_key FROM customers WHERE id = $1", c.ID).Scan(&now); err != nil {
			return err
		}
		if err := customers.Adapter().KeyChanged(ctx, c, "encrypted_kms_key", now); err != nil {
			return err // kmsencrypted.ErrConflict: read the record again
		}
	}
	return kmsencrypted.ErrConflict
}

// updateSQL compares so that NULL equals NULL.
func updateSQL(w field.Write, id int64) (string, []any) {
	args := []any{id}
	list := func(assignments []field.Assignment, operator string) (parts []string) {
		for _, a := range assignments {
			args = append(args, a.Value)
			parts = append(parts, fmt.Sprintf("%s %s $%d", a.Column, operator, len(args)))
		}
		return parts
	}
	set := strings.Join(list(w.Set, "="), ", ")
	where := strings.Join(append([]string{"id = $1"}, list(w.Where, "IS NOT DISTINCT FROM")...), " AND ")
	return "UPDATE customers SET " + set + " WHERE " + where, args
}

func people() []Customer {
	phone := "+44 20 7946 0958"
	return []Customer{
		{Name: "Ada", Email: field.New("ada@example.org"), Photo: field.New([]byte{0xff, 0xd8, 0}), Phone: field.New(&phone)},
		{Name: "Grace", Email: field.New("grace@example.org")},
	}
}

// want reads all customers and compares them with people.
func want(t *testing.T, conn *pgx.Conn, customers *field.Model[Customer]) []Customer {
	t.Helper()
	list, err := find(t.Context(), conn, customers, "SELECT * FROM customers ORDER BY id")
	must(t, err)
	if len(list) != 2 {
		t.Fatalf("%d customers, want 2", len(list))
	}
	ada, grace := list[0], list[1]
	if ada.Email.Must() != "ada@example.org" || string(ada.Photo.Must()) != "\xff\xd8\x00" || *ada.Phone.Must() != "+44 20 7946 0958" {
		t.Errorf("Ada = %q %x", ada.Email.Must(), ada.Photo.Must())
	}
	if grace.Email.Must() != "grace@example.org" || !grace.Photo.IsNull() || grace.Phone.Must() != nil {
		t.Errorf("Grace = %q, photo NULL: %t", grace.Email.Must(), grace.Photo.IsNull())
	}
	return list
}

func TestBatchPostgres(t *testing.T) {
	t.Parallel()
	conn, customers := connect(t)
	list := people()
	must(t, prepare(t.Context(), conn, customers, list))
	batch := new(pgx.Batch)
	for i := range list {
		batch.Queue(insertCustomer, values(&list[i])...)
	}
	must(t, conn.SendBatch(t.Context(), batch).Close())
	want(t, conn, customers)
}

func TestCopyFromPostgres(t *testing.T) {
	t.Parallel()
	conn, customers := connect(t)
	list := people()
	must(t, prepare(t.Context(), conn, customers, list))
	columns := append([]string{"id", "name"}, customers.Adapter().Columns()...)
	n, err := conn.CopyFrom(t.Context(), pgx.Identifier{"customers"}, columns,
		pgx.CopyFromSlice(len(list), func(i int) ([]any, error) { return values(&list[i]), nil }))
	must(t, err)
	if n != 2 {
		t.Errorf("CopyFrom wrote %d rows", n)
	}
	want(t, conn, customers)
}

func TestUpdatePostgres(t *testing.T) {
	t.Parallel()
	conn, customers := connect(t)
	list := people()
	must(t, prepare(t.Context(), conn, customers, list))
	for i := range list {
		_, err := conn.Exec(t.Context(), insertCustomer, values(&list[i])...)
		must(t, err)
	}
	mine := want(t, conn, customers)[0]
	mine.Email.Set("ada@example.net")
	mine.Phone.SetNull()
	must(t, update(t.Context(), conn, customers, &mine))
	read, err := find(t.Context(), conn, customers, "SELECT * FROM customers WHERE id = $1", mine.ID)
	must(t, err)
	if got := read[0].Email.Must(); got != "ada@example.net" || !read[0].Phone.IsNull() {
		t.Errorf("after update: %q, phone NULL: %t", got, read[0].Phone.IsNull())
	}

	// Somebody puts another data key into the row.
	theirs := read[0]
	must(t, customers.SealNew(t.Context(), &theirs))
	_, err = conn.Exec(t.Context(), "UPDATE customers SET encrypted_kms_key = $2, email_ciphertext = $3, photo_ciphertext = $4 WHERE id = $1",
		theirs.ID, theirs.Key, theirs.Email, theirs.Photo)
	must(t, err)
	mine.Email.Set("lost@example.net")
	if err := update(t.Context(), conn, customers, &mine); !errors.Is(err, kmsencrypted.ErrConflict) {
		t.Errorf("update of a changed row: %v, want ErrConflict", err)
	}
}

// Unsealed plaintext stops at the field, a bare string at the constraint.
func TestPlaintextPostgres(t *testing.T) {
	t.Parallel()
	conn, customers := connect(t)
	c := Customer{ID: 1, Email: field.New("ada@example.org")}
	_, err := conn.Exec(t.Context(), "INSERT INTO customers (id, email_ciphertext) VALUES ($1, $2)", c.ID, c.Email)
	if !errors.Is(err, kmsencrypted.ErrUnsealed) {
		t.Errorf("Exec with an unsealed field: %v, want ErrUnsealed", err)
	}
	_, err = conn.CopyFrom(t.Context(), pgx.Identifier{"customers"}, []string{"id", "email_ciphertext"}, pgx.CopyFromRows([][]any{{c.ID, c.Email}}))
	// CopyFrom gives its error to the server and returns what that makes of it.
	if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || !strings.Contains(refused.Message, kmsencrypted.ErrUnsealed.Error()) {
		t.Errorf("CopyFrom with an unsealed field: %v, want the text of ErrUnsealed", err)
	}
	for name, column := range map[string]struct {
		column string
		value  any
	}{
		"text":  {"email_ciphertext", "ada@example.org"},
		"bytes": {"photo_ciphertext", []byte("\xff\xd8 a photograph of some length, in plaintext")},
		"key":   {"encrypted_kms_key", "not a key"},
	} {
		_, err := conn.Exec(t.Context(), "INSERT INTO customers (id, "+column.column+") VALUES (1, $1)", column.value)
		if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.ConstraintName != "customers_encrypted" {
			t.Errorf("plaintext in a column of %s: %v, want a violation of the constraint", name, err)
		}
	}
	list, err := find(t.Context(), conn, customers, "SELECT * FROM customers")
	must(t, err)
	if len(list) != 0 {
		t.Errorf("%d rows hold plaintext", len(list))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
