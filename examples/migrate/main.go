// Migrate: a plain column becomes an encrypted one with a blind index while
// programs go on reading and writing. First both columns are written and old rows
// are read from the plain one; then the old rows are filled in batches, which may
// be interrupted and started again; then both columns are compared, row by row;
// then only the encrypted column is left.
//
//	go run ./examples/migrate
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
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
	Index    field.Index      `db:"email_bidx" kms:"of=Email,algorithm=pbkdf2_sha256"`
}

// Customer is the table once every row is filled.
type Customer struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
	Index field.Index      `db:"email_bidx" kms:"of=Email,algorithm=pbkdf2_sha256"`
}

// indexKey is the master key of the index; see [blindindex.MasterKeyFromEnv] for a real one.
var indexKey = masterKey("example!")

// masterKey is for examples, whose keys are no secrets.
func masterKey(text string) blindindex.MasterKey {
	key, err := blindindex.NewMasterKey(bytes.Repeat([]byte(text), 4))
	if err != nil {
		panic(err)
	}
	return key
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
	migrating, err := field.NewModel[Migrating](box, field.Config{Table: "customers", IndexKey: indexKey})
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

	// A program of before, still running, changes a row that has both columns.
	if _, err := db.ExecContext(ctx, `UPDATE customers SET email = 'moved@example.org' WHERE id = ?`, fresh.ID); err != nil {
		return err
	}

	// Second step, when the last program of before has ended: fill what was there
	// before, a batch at a time. The first run is interrupted.
	some, err := fill(ctx, db, migrating, 100)
	if err != nil {
		return err
	}
	rest, err := fill(ctx, db, migrating, 1_000_000)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "filled                   %d rows, then %d\n", some, rest)

	// Third step: compare both columns of every row, until they agree.
	for {
		healed, err := verify(ctx, db, migrating)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "compared                 %d rows differed\n", healed)
		if healed == 0 {
			break
		}
	}

	// Last deployment: the plain column goes.
	if _, err := db.ExecContext(ctx, `ALTER TABLE customers DROP COLUMN email`); err != nil {
		return err
	}
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers", Complete: true, IndexKey: indexKey})
	if err != nil {
		return err
	}
	var all []Customer
	if err := kmssqlx.Select(ctx, db, customers, &all, `SELECT * FROM customers ORDER BY id`); err != nil {
		return err
	}
	fmt.Fprintf(out, "encrypted                %d rows, from %s to %s\n", len(all), all[0].Email.Must(), all[len(all)-1].Email.Must())
	var found Customer
	if err := kmssqlx.Get(ctx, db, customers, &found, `SELECT * FROM customers WHERE email_bidx IN (?)`, customers.Lookup("Email", "moved@example.org")); err != nil {
		return err
	}
	fmt.Fprintf(out, "found by index           %d\n", found.ID)
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
		`ALTER TABLE customers ADD COLUMN email_bidx TEXT`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

const batch = 50

// fill encrypts rows that have only the plain column, at most so many. Rows that
// are done no longer match, so it may be interrupted at any time.
func fill(ctx context.Context, db *sqlx.DB, m *field.Model[Migrating], most int) (filled int, err error) {
	for last := int64(0); filled < most; {
		var rows []Migrating
		err := kmssqlx.Select(ctx, db, m, &rows, `SELECT * FROM customers
			WHERE id > ? AND email IS NOT NULL AND email_ciphertext IS NULL ORDER BY id LIMIT ?`, last, batch)
		if err != nil || len(rows) == 0 {
			return filled, err
		}
		for i := range rows {
			// Reading took the old value over; writing seals it, with its index.
			written, err := save(ctx, db, m, &rows[i])
			if err != nil {
				return filled, err
			}
			filled += written
		}
		last = rows[len(rows)-1].ID
	}
	return filled, nil
}

// verify compares both columns of every row. Where they differ a program of
// before wrote the plain one alone, after the row was filled: that value counts.
func verify(ctx context.Context, db *sqlx.DB, m *field.Model[Migrating]) (healed int, err error) {
	for last := int64(0); ; {
		var rows []Migrating
		err := kmssqlx.Select(ctx, db, m, &rows, `SELECT * FROM customers WHERE id > ? ORDER BY id LIMIT ?`, last, batch)
		if err != nil || len(rows) == 0 {
			return healed, err
		}
		for i := range rows {
			if m.Migrated(&rows[i]) {
				continue
			}
			m.TakeOld(&rows[i])
			if _, err := save(ctx, db, m, &rows[i]); err != nil {
				return healed, err
			}
			healed++
		}
		last = rows[len(rows)-1].ID
	}
}

// save writes a row unless somebody else did since it was read, who knew better.
func save(ctx context.Context, db *sqlx.DB, m *field.Model[Migrating], row *Migrating) (written int, err error) {
	err = kmssqlx.Update(ctx, db, m, row)
	if errors.Is(err, kmsencrypted.ErrConflict) {
		return 0, nil
	}
	return 1, err
}
