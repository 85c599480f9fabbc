package attach_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// Attach a file in the transaction that inserts its record, and read a part of it.
func Example() {
	type Customer struct {
		ID  int64     `db:"id"`
		Key field.Key `db:"encrypted_kms_key"`
	}
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite", ":memory:")
	check(err)
	defer db.Close()
	db.SetMaxOpenConns(1) // one database in memory
	_, err = db.Exec("CREATE TABLE customers (id integer PRIMARY KEY, encrypted_kms_key text)")
	check(err)

	box, err := kmsencrypted.NewBox(testkey.New())
	check(err)
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers", Files: true})
	check(err)
	attachments, err := attach.New(ctx, db, field.SQLite, customers, attach.Config{
		One: []string{"license"}, Buckets: map[string]attach.Bucket{"memory": new(attach.Memory)},
	})
	check(err)
	check(attachments.CreateTables(ctx))

	c := Customer{ID: 7}
	pending, err := attachments.Upload(ctx, &c, "license", strings.NewReader("driving licence of Ada"), attach.Options{Name: `C:\license.txt`})
	check(err)
	tx, err := db.BeginTx(ctx, nil)
	check(err)
	defer tx.Rollback()
	_, err = tx.Exec("INSERT INTO customers (id) VALUES (7)")
	check(err)
	att, err := pending.Commit(ctx, tx)
	check(err)
	check(tx.Commit())

	f, err := attachments.Open(ctx, att)
	check(err)
	defer f.Close()
	_, err = f.Seek(-3, io.SeekEnd)
	check(err)
	end, err := io.ReadAll(f)
	fmt.Println(f.Name(), f.ContentType(), f.Size(), string(end), err)
	// Output: license.txt text/plain; charset=utf-8 22 Ada <nil>
}
