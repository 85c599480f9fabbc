package blindindex_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"slices"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
)

// masterKey is an example; a real one comes from [blindindex.MasterKeyFromEnv].
func masterKey() blindindex.MasterKey {
	key, err := blindindex.ParseMasterKey("a3870c1672909a580c2a10bc40bbdb073c4b45dd55932321e648aaaec1f32524")
	if err != nil {
		log.Fatal(err)
	}
	return key
}

func derive(column string, o blindindex.Options) *blindindex.Index {
	x, err := blindindex.Derive(masterKey(), "users", column, o)
	if err != nil {
		log.Fatal(err)
	}
	return x
}

// The index of an e-mail address, as a Rails application with
// "blind_index :email, expression: ->(v) { v.downcase }" writes and searches it.
func ExampleDerive() {
	emails, err := blindindex.Derive(masterKey(), "users", "email_bidx", blindindex.Options{
		Expression: blindindex.Lower,
	})
	if err != nil {
		log.Fatal(err)
	}
	stored, err := emails.Compute("Ada@Example.org")
	if err != nil {
		log.Fatal(err)
	}
	sought, err := emails.Compute("ada@example.org")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(stored.Text()), stored == sought)
	fmt.Println(stored) // equal values would be recognised in a log
	// Output:
	// 44 true
	// [blind index]
}

func ExampleNew() {
	// A key of its own, raw bytes, and a cheap hash for tokens that cannot be guessed.
	key, err := blindindex.ParseKey("10b212adae75e3a062479fda6ac9bdf499beca18ea9e938d3bf83e0e6fe31c94")
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := blindindex.New(key, "token_bidx", blindindex.Options{
		Algorithm: blindindex.HMAC{},
		Encoding:  blindindex.Raw,
		Size:      16,
	})
	if err != nil {
		log.Fatal(err)
	}
	column, err := tokens.Compute("5b1ff4c0-6d5a-4a0b-9a5e-2c8d3a1f7e90")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(hex.EncodeToString(column.Bytes()))
	// Output: e8757e616a261a91a1fae4cd427cd1a3
}

func ExampleIndex_Lookup() {
	emails := derive("email_bidx", blindindex.Options{Expression: blindindex.Lower})
	lookup, err := emails.Lookup("ada@example.org", "bob@example.org", "ADA@example.org", nil)
	if err != nil {
		log.Fatal(err)
	}
	// SELECT … WHERE email_bidx IN (?, ?) OR email_bidx IS NULL
	fmt.Println(lookup.Name, len(lookup.Args()), lookup.Null)
	// Output: email_bidx 2 true
}

func ExampleCompound() {
	people := derive("name_born_bidx", blindindex.Options{})
	// The Go way: both fields at once, NULL if one is.
	born, err := blindindex.Compound("Lovelace", 1815)
	if err != nil {
		log.Fatal(err)
	}
	stored, err := people.Compute(born)
	if err != nil {
		log.Fatal(err)
	}
	// As in a Ruby model with a virtual attribute, index any text that a function returns.
	virtual, err := people.Compute("Lovelace" + " " + "1815")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(stored.IsNull(), virtual == stored)
	// Output: false false
}

func ExampleRotation() {
	old := derive(blindindex.ColumnName("email", 1, false), blindindex.Options{})
	successor := derive(blindindex.ColumnName("email", 2, false), blindindex.Options{
		Algorithm: blindindex.Argon2id{Slow: true},
	})
	rotation, err := blindindex.NewRotation(old, successor)
	if err != nil {
		log.Fatal(err)
	}
	assignments, err := rotation.Compute("ada@example.org")
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range assignments {
		fmt.Println("write", a.Name)
	}
	lookups, err := rotation.Lookup("ada@example.org")
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range lookups {
		fmt.Println("search", l.Name, len(l.Columns))
	}
	// Output:
	// write email_bidx
	// write email_bidx_v2
	// search email_bidx 1
	// search email_bidx_v2 1
}

func ExampleNewPrefixIndex() {
	names, err := blindindex.NewPrefixIndex(derive("name_bidx", blindindex.Options{Expression: blindindex.Lower}), 3, 5)
	if err != nil {
		log.Fatal(err)
	}
	stored, err := names.Compute("Lovelace") // lov, love, lovel: a row each
	if err != nil {
		log.Fatal(err)
	}
	sought, err := names.Lookup("LOVE")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(stored), slices.Contains(stored, sought.Columns[0]))

	_, err = names.Lookup("lo")
	fmt.Println(errors.Is(err, blindindex.ErrValue))
	// Output:
	// 3 true
	// true
}

// Filling an index column: a bad row is reported and does not stop the rest.
func ExampleBulk() {
	type user struct {
		id    int
		email string
	}
	users := func(yield func(user, error) bool) {
		for i, email := range []string{"ada@example.org", "not valid: \xff", "bob@example.org"} {
			if !yield(user{i + 1, email}, nil) {
				return
			}
		}
	}
	emails := derive("email_bidx", blindindex.Options{Expression: blindindex.Lower})
	compute := func(u user) (blindindex.Column, error) { return emails.Compute(u.email) }

	for c, err := range blindindex.Bulk(context.Background(), users, compute, blindindex.BulkOptions{}) {
		if err != nil {
			fmt.Println(c.Item.id, err)
			continue
		}
		fmt.Println(c.Item.id, c.Result)
	}
	// Output:
	// 1 [blind index]
	// 2 blindindex: email_bidx: value cannot be indexed: the text is not valid UTF-8
	// 3 [blind index]
}

func ExamplePropose() {
	// 400,000 customers in 9,000 towns, 8 % of them in one. A look-up may
	// return nine false rows for each that is sought.
	plan, err := blindindex.Propose(blindindex.Profile{Rows: 400_000, Distinct: 9_000, TopShare: 0.08}, 0.9)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan)
	// Output:
	// 11 bits for 400,000 rows with 9,000 distinct values: a look-up returns about 236 rows, 40.9 of them sought (82.7 % false).
	// Rows without a value are seen: NULL stays NULL.
	// Rows with different index values hold different values.
	// Rows with the same index value hold the same value with a probability of 17 %: an index value stands for 5.4 values on average.
	// The most frequent value stands out: its index value is on 32,180 rows, an average one on 198. Anybody who knows which value that is can find these rows. Spread over about 163 partitions it would not stand out.
	// Anybody who has the index key can test a guessed value at the cost of one hash; a wrong guess agrees with a given row by chance once in 2,048.
}

func ExampleParseExpression() {
	expression, err := blindindex.ParseExpression("digits+last4")
	if err != nil {
		log.Fatal(err)
	}
	p, err := expression(blindindex.Text("4111 1111 1111-1234"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Text())
	// Output: 1234
}
