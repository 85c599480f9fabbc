package main

import (
	"context"
	"fmt"
	"log"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

type Customer struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"` // one data key for the row
	Email field.Of[string] `db:"email_ciphertext"`
}

func main() {
	ctx := context.Background()
	db := sqlx.MustConnect("sqlite", "app.sqlite3")
	db.MustExec(`CREATE TABLE IF NOT EXISTS customers (id INTEGER PRIMARY KEY, encrypted_kms_key TEXT, email_ciphertext TEXT)`)

	key, err := local.OpenOrCreate("keys.txt", func() (inUse bool, err error) { // in production: providers.Open(ctx, "arn:aws:kms:…")
		err = db.Get(&inUse, `SELECT EXISTS (SELECT 1 FROM customers)`)
		return inUse, err // if records exist, a missing key file is an error
	})
	check(err)
	box, err := kmsencrypted.NewBox(key)
	check(err)
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
	check(err)

	ada := Customer{Email: field.New("ada@example.org")}
	check(kmssqlx.Insert(ctx, db, customers, &ada)) // seals the record and writes it

	var read Customer // reads a record and opens it
	check(kmssqlx.Get(ctx, db, customers, &read, `SELECT * FROM customers WHERE id = ?`, ada.ID))
	fmt.Println(read.ID, read.Email, read.Email.Must()) // 1 [redacted] ada@example.org
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
