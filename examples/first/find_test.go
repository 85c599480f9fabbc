package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// What the README says about finding and changing a record.
func Example_find() {
	type Customer struct {
		ID         int64            `db:"id"`
		Name       string           `db:"name"` // stays plain
		Key        field.Key        `db:"encrypted_kms_key"`
		Email      field.Of[string] `db:"email_ciphertext"`
		EmailIndex field.Index      `db:"email_bidx" kms:"of=Email,expression=lower"` // a keyed hash to search by
	}

	os.Setenv("BLIND_INDEX_MASTER_KEY", "cafe0000cafe0000cafe0000cafe0000cafe0000cafe0000cafe0000cafe0000")
	defer os.Unsetenv("BLIND_INDEX_MASTER_KEY")
	folder, err := os.MkdirTemp("", "find")
	check(err)
	defer os.RemoveAll(folder)
	db := sqlx.MustConnect("sqlite", filepath.Join(folder, "app.sqlite3"))
	defer db.Close()
	db.MustExec(`CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, encrypted_kms_key TEXT, email_ciphertext TEXT, email_bidx TEXT)`)
	key, err := local.Create(filepath.Join(folder, "keys.txt"))
	check(err)
	box, err := kmsencrypted.NewBox(key)
	check(err)
	ctx := context.Background()

	indexKey, err := blindindex.MasterKeyFromEnv() // BLIND_INDEX_MASTER_KEY, from openssl rand -hex 32
	check(err)
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers", IndexKey: indexKey})
	check(err)
	check(kmssqlx.Insert(ctx, db, customers, &Customer{Name: "Ada", Email: field.New("ada@example.org")}))

	var found Customer
	check(kmssqlx.Get(ctx, db, customers, &found, `SELECT * FROM customers WHERE email_bidx IN (?)`,
		customers.Lookup("Email", "ADA@example.org")))

	found.Name = "Ada King"
	found.Email.Set("countess@example.org")
	check(kmssqlx.Update(ctx, db, customers, &found, "name")) // the encrypted fields that were set, and the plain column name

	fmt.Println(found.ID, found.Name, found.Email.Must())
	// Output: 1 Ada King countess@example.org
}
