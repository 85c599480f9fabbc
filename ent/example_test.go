package kment_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	kment "github.com/kmsencrypted/kmsencrypted/ent"
	"github.com/kmsencrypted/kmsencrypted/examples/ent/ent"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// The client of a generated package, in examples/ent/ent.
func Example() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file:ent?mode=memory&cache=shared&_pragma=foreign_keys(1)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		log.Fatal(err)
	}
	indexKey, err := blindindex.NewMasterKey([]byte("32 bytes from a secret manager!!"))
	if err != nil {
		log.Fatal(err)
	}
	customers, err := field.NewModel[ent.Customer](box, field.Config{Table: "customers", IndexKey: indexKey})
	if err != nil {
		log.Fatal(err)
	}
	orders, err := field.NewModel[ent.Order](box, field.Config{Table: "orders"})
	if err != nil {
		log.Fatal(err)
	}

	driver, err := kment.Wrap(entsql.OpenDB(dialect.SQLite, db), customers, orders)
	if err != nil {
		log.Fatal(err)
	}
	client := ent.NewClient(ent.Driver(driver))
	if err := client.Schema.Create(ctx); err != nil {
		log.Fatal(err)
	}

	ada, err := client.Customer.Create().SetName("Ada").SetEmail(field.New("ada@example.org")).Save(ctx)
	if err != nil {
		log.Fatal(err)
	}
	ada, err = ada.Update().SetEmail(field.New("countess@example.org")).Save(ctx)
	if err != nil {
		log.Fatal(err)
	}
	found, err := client.Customer.Query().Where(kment.Lookup(customers.Lookup("Email", "Countess@example.org"))).Only(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.Name, found.Email.Must(), found.ID == ada.ID)
	fmt.Println(client.Customer.Update().SetEmail(field.New("x")).Exec(ctx))
	// Output:
	// Ada countess@example.org true
	// kmsencrypted: update customers column email_ciphertext: plaintext was not sealed: seal the record before writing it: one ciphertext cannot serve many rows: query the entities, and use UpdateOne for each
}
