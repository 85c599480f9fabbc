// Search: customers whose e-mail addresses and telephone numbers are encrypted,
// found by blind indexes: by address in any case, by the last four digits of the
// number, and by the domain of the address, whose index is truncated so that it
// tells less. A unique index keeps addresses unique, and an index moves to
// another key without a look-up that misses.
//
//	go run ./examples/search
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
	"strings"

	"github.com/jmoiron/sqlx"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// Customer is a row of the table customers.
type Customer struct {
	ID    int64            `db:"id"`
	Name  string           `db:"name"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
	Phone field.Of[string] `db:"phone_ciphertext"`

	EmailIndex field.Index `db:"email_bidx" kms:"of=Email,expression=lower"`
	Last4      field.Index `db:"phone_last4_bidx" kms:"of=Phone,expression=digits+last4"`
	Domain     field.Index `db:"email_domain_bidx" kms:"of=Email"` // see domainIndex
}

const createTable = `CREATE TABLE customers (
	id INTEGER PRIMARY KEY,
	name TEXT NOT NULL,
	encrypted_kms_key TEXT,
	email_ciphertext TEXT,
	phone_ciphertext TEXT,
	email_bidx TEXT,
	phone_last4_bidx TEXT,
	email_domain_bidx TEXT
);
CREATE UNIQUE INDEX customers_email ON customers (email_bidx);
CREATE INDEX customers_last4 ON customers (phone_last4_bidx);
CREATE INDEX customers_domain ON customers (email_domain_bidx)`

const insertCustomers = `INSERT INTO customers
	(id, name, encrypted_kms_key, email_ciphertext, phone_ciphertext, email_bidx, phone_last4_bidx, email_domain_bidx) VALUES
	(:id, :name, :encrypted_kms_key, :email_ciphertext, :phone_ciphertext, :email_bidx, :phone_last4_bidx, :email_domain_bidx)`

// indexKey is the master key of all indexes. A real one is secret and comes from
// [blindindex.MasterKeyFromEnv]; this one makes the same example every time.
var indexKey = masterKey("example!")

// masterKey is for examples, whose keys are no secrets.
func masterKey(text string) blindindex.MasterKey {
	key, err := blindindex.NewMasterKey(bytes.Repeat([]byte(text), 4))
	if err != nil {
		panic(err)
	}
	return key
}

// people are the customers: name, e-mail address, phone number.
var people = [][3]string{
	{"Ada", "Ada@mail.example", "+44 20 7946 0958"},
	{"Alan", "alan@mail.example", "+44 1632 960 912"},
	{"Alonzo", "alonzo@park.example", "+1 609 555 0614"},
	{"Barbara", "barbara@mit.example", "+1 617 555 1107"},
	{"Claude", "claude@bell.example", "+1 908 555 0430"},
	{"Dennis", "dennis@bell.example", "+1 908 555 0909"},
	{"Donald", "donald@mail.example", "+1 650 555 0110"},
	{"Edsger", "edsger@mail.example", "+31 20 555 0511"},
	{"Frances", "frances@mail.example", "+1 518 555 0804"},
	{"Grace", "grace@navy.example", "+1 555 0906 1906"},
	{"Hedy", "hedy@mail.example", "+43 1 555 1109"},
	{"Jean", "jean@navy.example", "+1 215 555 1227"},
	{"Joan", "joan@park.example", "+44 (0)20 7946-0958"},
	{"John", "john@mit.example", "+1 617 555 0904"},
	{"Karen", "karen@park.example", "+44 1223 555 826"},
	{"Katherine", "katherine@nasa.example", "+1 757 555 0826"},
	{"Ken", "ken@bell.example", "+1 908 555 0204"},
	{"Margaret", "margaret@nasa.example", "+1 617 555 0817"},
	{"Mary", "mary@nasa.example", "+1 757 555 0921"},
	{"Niklaus", "niklaus@eth.example", "+41 44 555 0215"},
	{"Radia", "radia@mail.example", "+1 425 555 1218"},
	{"Sophie", "sophie@mail.example", "+44 1223 555 100"},
	{"Tony", "tony@mail.example", "+44 1865 960 111"},
	{"Ursula", "ursula@eth.example", "+41 44 555 1021"},
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "search")
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
	if _, err := db.ExecContext(ctx, createTable); err != nil {
		return err
	}

	fmt.Fprintln(out, "The planner on an index of domains:")
	domains, err := domainIndex(out)
	if err != nil {
		return err
	}
	customers, err := field.NewModel[Customer](box, field.Config{
		Table:    "customers",
		IndexKey: indexKey,
		Indexes:  map[string]*blindindex.Index{"email_domain_bidx": domains},
	})
	if err != nil {
		return err
	}
	if err := fill(ctx, db, customers); err != nil {
		return err
	}

	if err := search(ctx, db, customers, out); err != nil {
		return err
	}

	fmt.Fprintln(out, "\nA second customer with Ada's address, in other letters:")
	err = insert(ctx, db, customers, &Customer{ID: 25, Name: "Mallory", Email: field.New("ADA@mail.example")})
	if !errors.Is(err, errTaken) {
		return fmt.Errorf("inserted twice: %w", err)
	}
	fmt.Fprintf(out, "  %v\n", err)

	fmt.Fprintln(out, "\nThe index of addresses moves to another key:")
	rotating, err := newRotating(box, domains)
	if err != nil {
		return err
	}
	return rotate(ctx, db, customers, rotating, out)
}

func search(ctx context.Context, db *sqlx.DB, customers *field.Model[Customer], out io.Writer) error {
	for _, s := range []struct {
		title  string
		lookup field.Lookup
	}{
		{"By e-mail address ADA@MAIL.EXAMPLE", customers.Lookup("EmailIndex", "ADA@MAIL.EXAMPLE")},
		{"By 0958, the last four digits", customers.Lookup("Phone", "0958")},
		{"By domain, that of anyone@navy.example; others have the same index value", customers.Lookup("Domain", "anyone@navy.example")},
	} {
		fmt.Fprintf(out, "\n%s:\n", s.title)
		found, err := rows(ctx, db, customers, s.lookup)
		if err != nil {
			return err
		}
		for i := range found {
			c := &found[i]
			matches, err := s.lookup.Matches(c)
			if err != nil {
				return err
			}
			verdict := map[bool]string{true: "found", false: "dropped"}[matches]
			fmt.Fprintf(out, "  %-7s  %-9s  %s, %s\n", verdict, c.Name, c.Email.Must(), c.Phone.Must())
		}
	}
	return nil
}

// domainIndex plans and makes the index of domains. A few domains have most of
// the customers, so a whole hash would tell who is with which; a narrow one makes
// several domains share an index value.
func domainIndex(out io.Writer) (*blindindex.Index, error) {
	plan, err := blindindex.Propose(blindindex.Profile{
		Rows:     24, // in earnest: as many as there will be
		Distinct: 8,
		TopShare: 9.0 / 24, // mail.example
	}, 0.75) // three false rows for each that is sought
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "  %s\n", strings.ReplaceAll(plan.String(), "\n", "\n  "))
	return blindindex.Derive(indexKey, "customers", "email_domain_bidx", blindindex.Options{
		Expression: blindindex.Domain,
		Bits:       plan.Bits,
	})
}

// fill inserts all people. They are sealed together: their keys are wrapped side
// by side, their indexes computed on all processors.
func fill(ctx context.Context, db *sqlx.DB, customers *field.Model[Customer]) error {
	var all []*Customer
	for i, p := range people {
		all = append(all, &Customer{ID: int64(i + 1), Name: p[0], Email: field.New(p[1]), Phone: field.New(p[2])})
	}
	return insert(ctx, db, customers, all...)
}

// errTaken: another customer has this e-mail address.
var errTaken = errors.New("the e-mail address is taken")

// insert seals and inserts customers. It does not look first whether an address
// is taken, which two programs could do at the same time: the unique index on the
// blind index says so.
func insert(ctx context.Context, db *sqlx.DB, customers *field.Model[Customer], all ...*Customer) error {
	if err := customers.SealNew(ctx, all...); err != nil {
		return err
	}
	_, err := db.NamedExecContext(ctx, insertCustomers, all)
	return taken(err)
}

func taken(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return fmt.Errorf("%w: %w", errTaken, err)
	}
	return err
}

// rows reads and opens what a look-up finds, which may be more than is sought.
func rows[R any](ctx context.Context, db *sqlx.DB, m *field.Model[R], l field.Lookup) ([]R, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	where := "FALSE"
	if len(l.Columns) > 0 {
		where = l.Name + " IN (?" + strings.Repeat(", ?", len(l.Columns)-1) + ")"
	}
	if l.Null {
		where += " OR " + l.Name + " IS NULL"
	}
	var found []R
	if err := db.SelectContext(ctx, &found, selectFrom(m)+` WHERE `+where+` ORDER BY id`, l.Args()...); err != nil {
		return nil, err
	}
	return found, m.Open(ctx, field.Pointers(found)...)
}

// selectFrom names the columns instead of *, so that a program goes on when
// another one has added a column.
func selectFrom[R any](m *field.Model[R]) string {
	return `SELECT id, name, ` + strings.Join(m.Adapter().Columns(), ", ") + ` FROM ` + m.Table()
}
