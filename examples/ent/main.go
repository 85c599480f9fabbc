// ent: customers and their orders in embedded SQLite. It shows what lies in the
// database, which calls are refused because they would write or compare plaintext, and
// that two writers do not overwrite each other. The folder ent/schema declares the
// columns, and ent/entc.go generates the code.
//
//	go run ./examples/ent
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	kment "github.com/kmsencrypted/kmsencrypted/ent"
	"github.com/kmsencrypted/kmsencrypted/examples/ent/ent"
	"github.com/kmsencrypted/kmsencrypted/examples/ent/ent/customer"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "ent")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite", filepath.Join(dir, "app.sqlite3")+"?_pragma=foreign_keys(1)")
	if err != nil {
		return err
	}
	defer db.Close()
	client, customers, err := open(dir, db)
	if err != nil {
		return err
	}
	if err := client.Schema.Create(ctx); err != nil {
		return err
	}

	ada, err := client.Customer.Create().SetName("Ada").SetEmail(field.New("ada@example.org")).Save(ctx)
	if err != nil {
		return err
	}
	_, err = client.Order.CreateBulk(
		client.Order.Create().SetAmount(7).SetGiftNote(field.New("Happy birthday")).SetCustomer(ada),
		client.Order.Create().SetAmount(12).SetCustomer(ada),
	).Save(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "What lies in the database:")
	if err := dump(ctx, db, out); err != nil {
		return err
	}

	found, err := client.Customer.Query().Where(kment.Lookup(customers.Lookup("Email", "ADA@example.org"))).WithOrders().Only(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nFound by address: %s, %s\n", found.Name, found.Email.Must())
	for _, o := range found.Edges.Orders {
		fmt.Fprintf(out, "  an order of %d with the note %q\n", o.Amount, o.GiftNote.Must())
	}

	fmt.Fprintln(out, "\nWhat is refused:")
	refused(ctx, out, client)
	return twoWriters(ctx, out, client, found)
}

// refused tries what would put plaintext into the database or its logs.
func refused(ctx context.Context, out io.Writer, client *ent.Client) {
	address := field.New("ada@example.net")
	_, search := client.Customer.Query().Where(customer.Email(address)).All(ctx)
	_, texts := client.Customer.Query().Select(customer.FieldEmail).Strings(ctx)
	for _, call := range []struct {
		what string
		err  error
	}{
		{"an update of many rows", client.Customer.Update().SetEmail(address).Exec(ctx)},
		{"a search by plaintext", search},
		{"ciphertexts as strings", texts},
	} {
		fmt.Fprintf(out, "  %s:\n    %v\n", call.what, call.err)
	}
}

// twoWriters changes a customer that another process gives a new data key.
func twoWriters(ctx context.Context, out io.Writer, client *ent.Client, mine *ent.Customer) error {
	if err := mine.Update().ClearOrders().Exec(ctx); err != nil {
		return err
	}
	if err := client.Customer.DeleteOne(mine).Exec(ctx); err != nil {
		return err
	}
	theirs, err := client.Customer.Create().SetName("Ada").SetEmail(field.New("ada@example.com")).Save(ctx)
	if err != nil {
		return err
	}
	mine.ID = theirs.ID
	err = mine.Update().SetEmail(field.New("ada@example.net")).Exec(ctx)
	fmt.Fprintf(out, "  a customer that was replaced meanwhile:\n    %v\n", err)
	now, err := client.Customer.UpdateOneID(theirs.ID).SetEmail(field.New("ada@example.net")).Save(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nRead again and updated: %s\n", now.Email.Must())
	return nil
}

// open makes a client whose driver knows the models.
func open(dir string, db *sql.DB) (*ent.Client, *field.Model[ent.Customer], error) {
	// A key file made on the spot. In production: providers/aws, gcp or vault.
	key, err := local.Create(filepath.Join(dir, "keys.txt"))
	if err != nil {
		return nil, nil, err
	}
	box, err := kmsencrypted.NewBox(key)
	if err != nil {
		return nil, nil, err
	}
	indexKey, err := blindindex.NewMasterKey([]byte("32 bytes from a secret manager!!"))
	if err != nil {
		return nil, nil, err
	}
	customers, err := field.NewModel[ent.Customer](box, field.Config{Table: "customers", IndexKey: indexKey})
	if err != nil {
		return nil, nil, err
	}
	orders, err := field.NewModel[ent.Order](box, field.Config{Table: "orders"})
	if err != nil {
		return nil, nil, err
	}
	driver, err := kment.Wrap(entsql.OpenDB(dialect.SQLite, db), customers, orders)
	if err != nil {
		return nil, nil, err
	}
	return ent.NewClient(ent.Driver(driver)), customers, nil
}

// dump prints the rows as they are stored.
func dump(ctx context.Context, db *sql.DB, out io.Writer) error {
	rows, err := db.QueryContext(ctx, "SELECT name, encrypted_kms_key, email_ciphertext FROM customers UNION ALL SELECT amount, encrypted_kms_key, gift_note_ciphertext FROM orders")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var key, value sql.NullString
		if err := rows.Scan(&name, &key, &value); err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-4s  key %.14s…  value %.14s…\n", name, key.String, value.String)
	}
	return rows.Err()
}
