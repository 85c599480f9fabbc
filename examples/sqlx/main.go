// A program on jmoiron/sqlx whose customers' addresses are encrypted, in embedded
// SQLite: it inserts, reads, finds by index and updates, and shows what happens
// when two of its processes change the same row.
//
//	go run ./examples/sqlx
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// Customer is a row of the table customers.
type Customer struct {
	ID         int64            `db:"id"`
	Name       string           `db:"name"`              // stays plain
	Key        field.Key        `db:"encrypted_kms_key"` // one data key for the row
	Email      field.Of[string] `db:"email_ciphertext"`
	EmailIndex field.Index      `db:"email_bidx" kms:"of=Email,expression=lower"`
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "sqlx")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db, err := sqlx.Open("sqlite", filepath.Join(dir, "app.sqlite3"))
	if err != nil {
		return err
	}
	defer db.Close()
	customers, err := open(ctx, db, filepath.Join(dir, "keys.txt"))
	if err != nil {
		return err
	}

	ada := Customer{Name: "Ada", Email: field.New("ada@example.org")}
	grace := Customer{Name: "Grace", Email: field.New("grace@example.org")}
	if err := kmssqlx.Insert(ctx, db, customers, &ada, &grace); err != nil {
		return err
	}

	var page []Customer
	if err := kmssqlx.Select(ctx, db, customers, &page, `SELECT * FROM customers ORDER BY id`); err != nil {
		return err
	}
	for _, c := range page {
		fmt.Fprintf(out, "%d %s %s, printed by mistake: %v\n", c.ID, c.Name, c.Email.Must(), c.Email)
	}

	var found Customer
	if err := kmssqlx.Get(ctx, db, customers, &found, `SELECT * FROM customers WHERE email_bidx IN (?)`, customers.Lookup("Email", "Grace@Example.org")); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nfound by address: %s\n", found.Name)

	found.Name = "Grace Hopper"
	found.Email.Set("admiral@example.org")
	if err := kmssqlx.Update(ctx, db, customers, &found, "name"); err != nil {
		return err
	}
	if err := kmssqlx.Get(ctx, db, customers, &found, `SELECT * FROM customers WHERE id = ?`, found.ID); err != nil {
		return err
	}
	fmt.Fprintf(out, "after the update: %s %s\n", found.Name, found.Email.Must())

	return race(ctx, db, customers, found, out)
}

// open makes the model and its table, with keys made on the spot. In production:
// providers/aws, gcp or vault, and an index key from where secrets are kept.
func open(ctx context.Context, db *sqlx.DB, keyFile string) (*field.Model[Customer], error) {
	key, err := local.Create(keyFile)
	if err != nil {
		return nil, err
	}
	box, err := kmsencrypted.NewBox(key)
	if err != nil {
		return nil, err
	}
	random := make([]byte, blindindex.KeySize)
	rand.Read(random)
	indexKey, err := blindindex.NewMasterKey(random)
	if err != nil {
		return nil, err
	}
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers", IndexKey: indexKey})
	if err != nil {
		return nil, err
	}
	columns, err := customers.DDL(field.SQLite)
	if err != nil {
		return nil, err
	}
	// The database itself refuses what is no ciphertext.
	check, err := customers.CheckConstraint(field.SQLite)
	if err != nil {
		return nil, err
	}
	_, err = db.ExecContext(ctx, `CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, `+strings.Join(columns, ", ")+`, `+check+`)`)
	return customers, err
}

// race lets another process give the row a new data key between reading and
// writing it.
func race(ctx context.Context, db *sqlx.DB, customers *field.Model[Customer], c Customer, out io.Writer) error {
	other := c
	if err := kmssqlx.Rekey(ctx, db, customers, &other); err != nil {
		return err
	}
	c.Email.Set("rear.admiral@example.org")
	err := kmssqlx.Update(ctx, db, customers, &c)
	fmt.Fprintf(out, "\nbeside a rekey:\n  %v\n", err)
	if !errors.Is(err, kmsencrypted.ErrConflict) {
		return err
	}
	if err := kmssqlx.Get(ctx, db, customers, &c, `SELECT * FROM customers WHERE id = ?`, c.ID); err != nil {
		return err
	}
	c.Email.Set("rear.admiral@example.org")
	if err := kmssqlx.Update(ctx, db, customers, &c); err != nil {
		return err
	}
	fmt.Fprintf(out, "  read again and repeated: %s\n", c.Email.Must())
	return nil
}
