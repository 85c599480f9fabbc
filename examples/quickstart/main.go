// Quickstart: customers in embedded SQLite, each sealed under a data key of its
// own, which a local key wraps. It shows what the database stores and what the
// program sees, what is refused, and how a record moves to another key.
//
//	go run ./examples/quickstart
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// Customer is a row of the table customers. Fields of type field.Of are
// ciphertexts in the database.
type Customer struct {
	ID    int64               `db:"id"`
	Name  string              `db:"name"`              // stays plain
	Key   field.Key           `db:"encrypted_kms_key"` // one data key for the row
	Email field.Of[string]    `db:"email_ciphertext"`
	Born  field.Of[time.Time] `db:"born_ciphertext" kms:"type=date"`
	Notes field.Of[[]string]  `db:"notes_ciphertext"` // any Go value, as JSON
	Phone field.Of[*string]   `db:"phone_ciphertext"` // NULL is nil
}

const createTable = `CREATE TABLE customers (
	id INTEGER PRIMARY KEY,
	name TEXT NOT NULL,
	encrypted_kms_key TEXT,
	email_ciphertext TEXT,
	born_ciphertext TEXT,
	notes_ciphertext TEXT,
	phone_ciphertext TEXT
)`

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	// A key file made on the spot. In production: providers/aws, gcp or vault.
	key, err := local.Create(filepath.Join(dir, "keys.txt"))
	if err != nil {
		return err
	}
	box, err := kmsencrypted.NewBox(key)
	if err != nil {
		return err
	}
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "app.sqlite3"))
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, createTable); err != nil {
		return err
	}

	phone := "+44 20 7946 0958"
	ada := Customer{
		ID:    1,
		Name:  "Ada",
		Email: field.New("ada@example.org"),
		Born:  field.New(time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC)),
		Notes: field.New([]string{"likes engines", "pays on time"}),
		Phone: field.New(&phone),
	}
	grace := Customer{ID: 2, Name: "Grace", Email: field.New("grace@example.org")}
	for _, c := range []*Customer{&ada, &grace} {
		if err := customers.Seal(ctx, c); err != nil {
			return err
		}
		if err := insert(ctx, db, c); err != nil {
			return err
		}
	}

	fmt.Fprintln(out, "What the database stores:")
	if err := dump(ctx, db, out); err != nil {
		return err
	}

	read, err := load(ctx, db, 1)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nPrinted by mistake:     %v\n", read.Email)
	if err := customers.Open(ctx, &read); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nWhat the program sees:")
	fmt.Fprintf(out, "  %s, %s, born %s, %s, %q\n", read.Name, read.Email.Must(), read.Born.Must().Format("2 January 2006"), *read.Phone.Must(), read.Notes.Must())

	fmt.Fprintln(out, "\nWhat is refused:")
	if err := refused(ctx, db, customers, out); err != nil {
		return err
	}

	fmt.Fprintln(out, "\nAda moves to version 2, another key:")
	return rotate(ctx, db, dir, key, out)
}

// refused tries what somebody who can write to the database may try.
func refused(ctx context.Context, db *sql.DB, customers *field.Model[Customer], out io.Writer) error {
	ada, err := load(ctx, db, 1)
	if err != nil {
		return err
	}
	grace, err := load(ctx, db, 2)
	if err != nil {
		return err
	}
	copied := grace
	copied.Email = ada.Email
	fmt.Fprintf(out, "  a ciphertext copied to another row:\n    %v\n", customers.Open(ctx, &copied))

	moved := ada // Ada's whole row under Grace's id
	moved.ID = 2
	fmt.Fprintf(out, "  a whole row under another id, so under the wrong context:\n    %v\n", customers.Open(ctx, &moved))

	plain := ada
	if err := plain.Email.Scan("mallory@example.org"); err != nil {
		return err
	}
	fmt.Fprintf(out, "  plaintext where a ciphertext should be:\n    %v\n", customers.Open(ctx, &plain))
	return nil
}

// rotate lists a second version and moves a record to it. Its data key stays,
// so only the key column changes.
func rotate(ctx context.Context, db *sql.DB, dir string, old kmsencrypted.Provider, out io.Writer) error {
	next, err := local.Create(filepath.Join(dir, "keys-2.txt"))
	if err != nil {
		return err
	}
	box, err := kmsencrypted.Config{
		Current:  2,
		Versions: map[int]kmsencrypted.Version{1: {Provider: old}, 2: {Provider: next}},
	}.Box()
	if err != nil {
		return err
	}
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
	if err != nil {
		return err
	}
	before, err := load(ctx, db, 1)
	if err != nil {
		return err
	}
	after := before
	if err := customers.Rewrap(ctx, &after); err != nil {
		return err
	}
	// Only if the key column is still what was read: nobody's change is lost.
	if _, err := db.ExecContext(ctx, `UPDATE customers SET encrypted_kms_key = ? WHERE id = ? AND encrypted_kms_key IS ?`, after.Key, after.ID, before.Key); err != nil {
		return err
	}
	read, err := load(ctx, db, 1)
	if err != nil {
		return err
	}
	if err := customers.Open(ctx, &read); err != nil {
		return err
	}
	from, _ := before.Key.Version()
	to, _ := read.Key.Version()
	fmt.Fprintf(out, "  version %d -> %d, still %s\n", from, to, read.Email.Must())
	return dump(ctx, db, out)
}

func insert(ctx context.Context, db *sql.DB, c *Customer) error {
	_, err := db.ExecContext(ctx, `INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?, ?)`,
		c.ID, c.Name, c.Key, c.Email, c.Born, c.Notes, c.Phone)
	return err
}

func load(ctx context.Context, db *sql.DB, id int64) (c Customer, err error) {
	err = db.QueryRowContext(ctx, `SELECT * FROM customers WHERE id = ?`, id).
		Scan(&c.ID, &c.Name, &c.Key, &c.Email, &c.Born, &c.Notes, &c.Phone)
	return c, err
}

// dump prints the rows as they are stored.
func dump(ctx context.Context, db *sql.DB, out io.Writer) error {
	rows, err := db.QueryContext(ctx, `SELECT name, encrypted_kms_key, email_ciphertext, phone_ciphertext FROM customers`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name, key, email string
		var phone sql.NullString
		if err := rows.Scan(&name, &key, &email, &phone); err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-5s  key %s  email %s  phone %s\n", name, short(key), short(email), short(phone.String))
	}
	return rows.Err()
}

func short(s string) string {
	if s == "" {
		return "NULL"
	}
	return s[:min(14, len(s))] + "…"
}
