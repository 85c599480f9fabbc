// Sqlc: customers through queries that sqlc generated from query.sql, in embedded
// SQLite. sqlc.yaml puts the types of package field into the generated structs;
// the model is made of the generated Customer, and the program seals before it
// writes and opens after it read.
//
//	go run ./examples/sqlc
//
// The folder store is what "sqlc generate" makes, but for date.go.
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/examples/sqlc/store"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

//go:embed schema.sql
var schema string

func main() {
	dir, err := os.MkdirTemp("", "sqlc")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite", filepath.Join(dir, "app.sqlite3"))
	if err == nil {
		err = run(context.Background(), db, dir, os.Stdout)
	}
	if err != nil {
		log.Print(err)
	}
}

func run(ctx context.Context, db *sql.DB, dir string, out io.Writer) error {
	key, err := local.Create(filepath.Join(dir, "keys.txt"))
	if err != nil {
		return err
	}
	box, err := kmsencrypted.NewBox(key)
	if err != nil {
		return err
	}
	random := make([]byte, blindindex.KeySize)
	rand.Read(random)
	indexKey, err := blindindex.NewMasterKey(random)
	if err != nil {
		return err
	}
	model, err := field.NewModel[store.Customer](box, field.Config{Table: "customers", IndexKey: indexKey})
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return err
	}
	c := customers{db, store.New(db), model}

	ada := store.Customer{Name: "Ada", Email: field.New("ada@example.org"), Born: field.New(time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC))}
	grace := store.Customer{Name: "Grace", Email: field.New("grace@example.org")}
	if err := errors.Join(c.create(ctx, &ada), c.create(ctx, &grace)); err != nil {
		return err
	}

	page, err := c.list(ctx, 100)
	if err != nil {
		return err
	}
	for _, p := range page {
		fmt.Fprintf(out, "%d %s %s, printed by mistake: %v\n", p.ID, p.Name, p.Email.Must(), p.Email)
	}
	found, err := c.find(ctx, "ADA@example.org")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "found by address: %s, born %s\n", found[0].Name, found[0].Born.Must().Format(time.DateOnly))

	stale := found[0]
	if err := c.rekey(ctx, &found[0]); err != nil {
		return err
	}
	stale.Email.Set("lost@example.org")
	fmt.Fprintf(out, "beside a rekey: %v\n", c.save(ctx, &stale))
	again, err := c.get(ctx, stale.ID)
	if err != nil {
		return err
	}
	again.Email.Set("countess@example.org")
	if err := c.save(ctx, &again); err != nil {
		return err
	}
	again, err = c.get(ctx, stale.ID)
	fmt.Fprintf(out, "read again and saved: %s\n", again.Email.Must())
	return err
}

// customers is the generated queries with sealing and opening around.
type customers struct {
	db      *sql.DB
	queries *store.Queries
	model   *field.Model[store.Customer]
}

// create inserts the plain columns, which gives the id that the data key is bound
// to, and completes the row in the same transaction.
func (c customers) create(ctx context.Context, row *store.Customer) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	queries := c.queries.WithTx(tx)
	if row.ID, err = queries.CreateCustomer(ctx, row.Name); err != nil {
		return err
	}
	if err := c.model.SealNew(ctx, row); err != nil {
		return err
	}
	var null field.Key
	if err := null.Scan(nil); err != nil {
		return err
	}
	if err := c.write(ctx, queries, row, null); err != nil {
		return err
	}
	return tx.Commit()
}

// save writes what was set in a record, if the row has still the data key that
// was read. If it was only wrapped anew, that is tried once more.
func (c customers) save(ctx context.Context, row *store.Customer) error {
	before := row.Key
	if err := c.model.Seal(ctx, row); err != nil {
		return err
	}
	err := c.write(ctx, c.queries, row, before)
	if !errors.Is(err, kmsencrypted.ErrConflict) {
		return err
	}
	now, err := c.queries.GetCustomer(ctx, row.ID)
	if err != nil {
		return err
	}
	wrapped, err := now.Key.Value()
	if err != nil {
		return err
	}
	if err := c.model.Adapter().KeyChanged(ctx, row, "encrypted_kms_key", wrapped); err != nil {
		return err // kmsencrypted.ErrConflict: read the record again
	}
	return c.write(ctx, c.queries, row, row.Key)
}

func (c customers) rekey(ctx context.Context, row *store.Customer) error {
	before := row.Key
	if err := c.model.Rekey(ctx, row); err != nil {
		return err
	}
	return c.write(ctx, c.queries, row, before)
}

func (c customers) write(ctx context.Context, queries *store.Queries, row *store.Customer, before field.Key) error {
	n, err := queries.UpdateCustomer(ctx, store.UpdateCustomerParams{
		Key: row.Key, Email: row.Email, Born: row.Born, EmailIndex: row.EmailIndex,
		ID: row.ID, KeyBefore: before,
	})
	if err == nil && n == 0 {
		err = kmsencrypted.ErrConflict
	}
	if err == nil {
		c.model.Adapter().Saved(row)
	}
	return err
}

func (c customers) get(ctx context.Context, id int64) (store.Customer, error) {
	row, err := c.queries.GetCustomer(ctx, id)
	if err != nil {
		return row, err
	}
	return row, c.model.Open(ctx, &row)
}

func (c customers) list(ctx context.Context, limit int64) ([]store.Customer, error) {
	return c.open(ctx)(c.queries.ListCustomers(ctx, limit))
}

// find returns the customers with an address, in whatever case.
func (c customers) find(ctx context.Context, address string) (hits []store.Customer, err error) {
	lookup := c.model.Lookup("Email", address)
	if lookup.Err() != nil {
		return nil, lookup.Err()
	}
	found, err := c.open(ctx)(c.queries.FindCustomers(ctx, lookup.Indexes()))
	if err != nil {
		return nil, err
	}
	for i := range found { // whoever can write to the table can change an index
		ok, err := lookup.Matches(&found[i])
		if err != nil {
			return nil, err
		}
		if ok {
			hits = append(hits, found[i])
		}
	}
	return hits, nil
}

// open opens what a query returned, side by side.
func (c customers) open(ctx context.Context) func([]store.Customer, error) ([]store.Customer, error) {
	return func(rows []store.Customer, err error) ([]store.Customer, error) {
		if err != nil {
			return nil, err
		}
		return rows, c.model.Open(ctx, field.Pointers(rows)...)
	}
}
