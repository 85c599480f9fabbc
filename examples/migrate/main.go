// Migrate: a plain column becomes an encrypted one with a blind index while
// programs go on reading and writing, in three releases. The first writes both
// columns and reads the plain one. Then a rotation fills the encrypted column and
// compares both. The second release reads the encrypted column and still writes
// both; the third knows it alone.
//
//	go run ./examples/migrate
package main

import (
	"bytes"
	"context"
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
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// Migrating is the table in release 1: the plain column is the truth.
type Migrating struct {
	ID       int64            `db:"id"`
	OldEmail *string          `db:"email"`
	Key      field.Key        `db:"encrypted_kms_key"`
	Email    field.Of[string] `db:"email_ciphertext" kms:"migrating=OldEmail"`
	Index    field.Index      `db:"email_bidx" kms:"of=Email,algorithm=pbkdf2_sha256"`
}

// Migrated is the table in release 2: the encrypted column is read.
type Migrated struct {
	ID       int64            `db:"id"`
	OldEmail *string          `db:"email"`
	Key      field.Key        `db:"encrypted_kms_key"`
	Email    field.Of[string] `db:"email_ciphertext" kms:"migrated=OldEmail"`
	Index    field.Index      `db:"email_bidx" kms:"of=Email,algorithm=pbkdf2_sha256"`
}

// Customer is the table in release 3.
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
	db, err := sqlx.Open("sqlite", "file:"+filepath.Join(dir, "app.sqlite3")+"?_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := before(ctx, db); err != nil {
		return err
	}

	// Release 1 writes both columns and reads the plain one.
	migrating, err := field.NewModel[Migrating](box, field.Config{Table: "customers", IndexKey: indexKey})
	if err != nil {
		return err
	}
	fresh := Migrating{Email: field.New("new@example.org")}
	if err := kmssqlx.Insert(ctx, db, migrating, &fresh); err != nil {
		return err
	}
	fmt.Fprintf(out, "a new row, for old programs   %s\n", *fresh.OldEmail)
	// A program of before, still running, changes a row that has both columns.
	if _, err := db.ExecContext(ctx, `UPDATE customers SET email = 'moved@example.org' WHERE id = ?`, fresh.ID); err != nil {
		return err
	}
	if err := kmssqlx.Get(ctx, db, migrating, &fresh, `SELECT * FROM customers WHERE id = ?`, fresh.ID); err != nil {
		return err
	}
	fmt.Fprintf(out, "what an old program wrote     %s\n", fresh.Email.Must())

	// The last program of before has ended.
	if err := fillAndCompare(ctx, out, db, box, migrating); err != nil {
		return err
	}
	// Release 2 reads the encrypted column and goes on writing both.
	if err := switchOver(ctx, out, db, box, fresh.ID); err != nil {
		return err
	}
	// The last program of release 2 has ended, and the plain column goes.
	if _, err := db.ExecContext(ctx, `ALTER TABLE customers DROP COLUMN email`); err != nil {
		return err
	}
	return afterwards(ctx, out, db, box)
}

// fillAndCompare is `rotate run --kind migrate` and `rotate verify --kind migrate`.
func fillAndCompare(ctx context.Context, out io.Writer, db *sqlx.DB, box *kmsencrypted.Box, m *field.Model[Migrating]) error {
	store, err := sqlstore.New(ctx, db.DB, field.SQLite, m, sqlstore.Options{})
	if err != nil {
		return err
	}
	if err := store.CreateTables(ctx); err != nil {
		return err
	}
	rotator, err := rotation.New(box, store, rotation.Options{Kind: rotation.Migrate, WritersAreOurs: true})
	if err != nil {
		return err
	}
	result, err := rotator.Run(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "filled or brought up to date  %d rows\n", result.Written)
	verified, err := rotator.Verify(ctx, rotation.VerifyOptions{})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "may be switched               %t\n", verified.Clean(box.Current()))
	return nil
}

func switchOver(ctx context.Context, out io.Writer, db *sqlx.DB, box *kmsencrypted.Box, id int64) error {
	migrated, err := field.NewModel[Migrated](box, field.Config{Table: "customers", IndexKey: indexKey})
	if err != nil {
		return err
	}
	var c Migrated
	if err := kmssqlx.Get(ctx, db, migrated, &c, `SELECT * FROM customers WHERE id = ?`, id); err != nil {
		return err
	}
	c.Email.Set("switched@example.org")
	if err := kmssqlx.Update(ctx, db, migrated, &c); err != nil {
		return err
	}
	fmt.Fprintf(out, "release 2, for release 1      %s\n", *c.OldEmail)
	return nil
}

func afterwards(ctx context.Context, out io.Writer, db *sqlx.DB, box *kmsencrypted.Box) error {
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers", IndexKey: indexKey})
	if err != nil {
		return err
	}
	var found Customer
	if err := kmssqlx.Get(ctx, db, customers, &found, `SELECT * FROM customers WHERE email_bidx IN (?)`, customers.Lookup("Email", "switched@example.org")); err != nil {
		return err
	}
	fmt.Fprintf(out, "found by index                %d\n", found.ID)
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
