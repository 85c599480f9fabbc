// Migrate: a plain column becomes an encrypted one while programs go on reading
// and writing. First both columns are written and old rows are read from the
// plain one; then the old rows are filled in batches, which may be interrupted
// and started again; then only the encrypted column is left.
//
//	go run ./examples/migrate
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// Migrating is the table while both columns are there.
type Migrating struct {
	ID       int64            `db:"id"`
	OldEmail *string          `db:"email"`
	Key      field.Key        `db:"encrypted_kms_key"`
	Email    field.Of[string] `db:"email_ciphertext" kms:"migrating=OldEmail"`
}

// Customer is the table once every row is filled.
type Customer struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "migrate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	key, err := local.Create(filepath.Join(dir, "keys.txt"))
	if err != nil {
		return err
	}
	box, err := kmsencrypted.NewBox(key)
	if err != nil {
		return err
	}
	db, err := sqlx.Open("sqlite", filepath.Join(dir, "app.sqlite3"))
	if err != nil {
		return err
	}
	defer db.Close()
	if err := before(ctx, db); err != nil {
		return err
	}

	// First deployment: both columns.
	migrating, err := field.NewModel[Migrating](box, field.Config{Table: "customers"})
	if err != nil {
		return err
	}
	var old Migrating
	if err := kmssqlx.Get(ctx, db, migrating, &old, `SELECT * FROM customers WHERE id = 1`); err != nil {
		return err
	}
	fmt.Fprintf(out, "an old row reads as      %s\n", old.Email.Must())
	fresh := Migrating{Email: field.New("new@example.org")}
	if err := kmssqlx.Insert(ctx, db, migrating, &fresh); err != nil {
		return err
	}
	fmt.Fprintf(out, "a new row, for old code  %s\n", *fresh.OldEmail)

	// Second step: fill what was there before, a batch at a time.
	filled, err := fill(ctx, db, migrating)
	if err != nil {
		return err
	}
	again, err := fill(ctx, db, migrating)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "filled                   %d rows, then %d\n", filled, again)

	// Last deployment: the plain column goes.
	if _, err := db.ExecContext(ctx, `ALTER TABLE customers DROP COLUMN email`); err != nil {
		return err
	}
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers", Complete: true})
	if err != nil {
		return err
	}
	var all []Customer
	if err := kmssqlx.Select(ctx, db, customers, &all, `SELECT * FROM customers ORDER BY id`); err != nil {
		return err
	}
	fmt.Fprintf(out, "encrypted                %d rows, from %s to %s\n", len(all), all[0].Email.Must(), all[len(all)-1].Email.Must())
	return nil
}

// before is the table as it was, with the new columns added.
func before(ctx context.Context, db *sqlx.DB) error {
	for _, statement := range []string{
		`CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT)`,
		`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
			INSERT INTO customers SELECT i, 'customer' || i || '@example.org' FROM n`,
		`ALTER TABLE customers ADD COLUMN encrypted_kms_key TEXT`,
		`ALTER TABLE customers ADD COLUMN email_ciphertext TEXT`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// fill encrypts the rows that have only the plain column. Rows that are done no
// longer match, so it may be interrupted at any time.
func fill(ctx context.Context, db *sqlx.DB, m *field.Model[Migrating]) (filled int, err error) {
	const batch = 100
	last := int64(0)
	for {
		var rows []Migrating
		err := kmssqlx.Select(ctx, db, m, &rows, `SELECT * FROM customers
			WHERE id > ? AND email IS NOT NULL AND email_ciphertext IS NULL ORDER BY id LIMIT ?`, last, batch)
		if err != nil || len(rows) == 0 {
			return filled, err
		}
		for i := range rows {
			// Reading took the old value over; writing seals it, unless somebody
			// else gave the row its key meanwhile.
			if err := kmssqlx.Update(ctx, db, m, &rows[i]); err != nil {
				return filled, err
			}
			filled++
		}
		last = rows[len(rows)-1].ID
	}
}
