package main

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
)

// These are the longer pieces of docs/search.md.

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func derive(column string, o blindindex.Options) *blindindex.Index {
	x, err := blindindex.Derive(indexKey, "customers", column, o)
	check(err)
	return x
}

func memory(statements string) *sqlx.DB {
	db, err := sqlx.Open("sqlite", ":memory:")
	check(err)
	db.SetMaxOpenConns(1) // each connection would have a database of its own
	db.MustExec(statements)
	return db
}

// Names are found by their beginnings of three to five characters, which lie in a
// table of their own.
func Example_prefixes() {
	db := memory(`CREATE TABLE customer_names (customer_id INTEGER NOT NULL, name_bidx TEXT NOT NULL);
		CREATE INDEX customer_names_bidx ON customer_names (name_bidx)`)
	defer db.Close()
	names, err := blindindex.NewPrefixIndex(derive("name_bidx", blindindex.Options{Expression: blindindex.Lower, Bits: 24}), 3, 5)
	check(err)

	for id, name := range []string{"Lovelace", "Lovell", "Hopper"} {
		columns, err := names.Compute(name)
		check(err)
		for _, c := range columns { // in the transaction that writes the customer
			db.MustExec(`INSERT INTO customer_names VALUES (?, ?)`, id, c)
		}
	}

	lookup, err := names.Lookup("LOVEL")
	check(err)
	query, args, err := sqlx.In(`SELECT DISTINCT customer_id FROM customer_names WHERE name_bidx IN (?) ORDER BY 1`, lookup.Args())
	check(err)
	var ids []int
	check(db.Select(&ids, query, args...))
	fmt.Println(ids) // open them and compare

	_, err = names.Lookup("lo")
	fmt.Println(errors.Is(err, blindindex.ErrValue))
	// Output:
	// [0 1]
	// true
}

// The most frequent domain is spread over eight index values, so that its rows do
// not stand out. A look-up seeks all of them.
func Example_partitions() {
	domains := derive("email_domain_bidx", blindindex.Options{
		Expression: blindindex.Domain,
		Partitions: func(domain string) int {
			if domain == "mail.example" {
				return 8
			}
			return 1
		},
	})
	frequent, err := domains.Lookup("anyone@mail.example")
	check(err)
	rare, err := domains.Lookup("anyone@navy.example")
	check(err)
	fmt.Println(len(frequent.Columns), len(rare.Columns), domains.Deterministic())
	// Output: 8 1 false
}

// One column for both indexes: rows hold one or the other, a look-up seeks both.
func Example_rotationInOneColumn() {
	before := derive("email_bidx", blindindex.Options{Expression: blindindex.Lower})
	after, err := blindindex.Derive(newIndexKey, "customers", "email_bidx", blindindex.Options{Expression: blindindex.Lower})
	check(err)
	rotation, err := blindindex.NewRotation(before, after)
	check(err)
	write, err := rotation.Compute("ada@mail.example")
	check(err)
	seek, err := rotation.Lookup("ada@mail.example")
	check(err)
	fmt.Println(len(write), len(seek), len(seek[0].Columns))
	// Output: 1 1 2
}

// A column that no model has is filled with Bulk: on all processors, in order,
// and a row that fails does not stop the rest.
func Example_bulk() {
	ctx := context.Background()
	db := memory(`CREATE TABLE imported (id INTEGER PRIMARY KEY, email TEXT, email_bidx TEXT);
		INSERT INTO imported (email) VALUES ('ada@mail.example'), (x'ff'), ('grace@navy.example')`)
	defer db.Close()
	emails := derive("email_bidx", blindindex.Options{Expression: blindindex.Lower})
	type row struct {
		ID    int64
		Email []byte
	}
	var rows []row // in earnest page by page
	check(db.Select(&rows, `SELECT id, email FROM imported WHERE email_bidx IS NULL ORDER BY id`))
	compute := func(r row) (blindindex.Column, error) { return emails.Compute(r.Email) }

	for c, err := range blindindex.Bulk(ctx, each(rows), compute, blindindex.BulkOptions{}) {
		if err != nil {
			fmt.Println(c.Item.ID, err)
			continue
		}
		db.MustExec(`UPDATE imported SET email_bidx = ? WHERE id = ? AND email = ?`, c.Result, c.Item.ID, string(c.Item.Email))
	}
	var filled int
	check(db.Get(&filled, `SELECT count(email_bidx) FROM imported`))
	fmt.Println(filled)
	// Output:
	// 2 blindindex: email_bidx: value cannot be indexed: the text is not valid UTF-8
	// 2
}

func each[T any](items []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}
