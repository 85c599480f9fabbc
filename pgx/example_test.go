package kmspgx_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// Person is a record with one plain and one encrypted column.
type Person struct {
	ID         int64            `db:"id"`
	Name       string           `db:"name"`
	Key        field.Key        `db:"encrypted_kms_key"`
	Email      field.Of[string] `db:"email_ciphertext"`
	EmailIndex field.Index      `db:"email_bidx" kms:"of=Email,expression=lower,algorithm=hmac_sha256"`
}

// newPersons makes a model. A program would use a key service, not the test key.
func newPersons() *field.Model[Person] {
	box, err := kmsencrypted.NewBox(testkey.New())
	check(err)
	key, err := blindindex.ParseMasterKey(strings.Repeat("42", 32))
	check(err)
	persons, err := field.NewModel[Person](box, field.Config{Table: "persons", IndexKey: key})
	check(err)
	return persons
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// The whole life of a record.
func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	check(err)
	defer pool.Close()
	persons := newPersons()

	ada := Person{Name: "Ada", Email: field.New("ada@example.org")}
	check(kmspgx.Insert(ctx, pool, persons, &ada)) // sets ada.ID

	rows, _ := pool.Query(ctx, "SELECT * FROM persons WHERE id = $1", ada.ID)
	p, err := kmspgx.CollectOneRow(ctx, rows, persons)
	check(err)
	fmt.Println(p.Name, p.Email.Must())

	p.Name = "Ada King"
	p.Email.Set("countess@example.org")
	err = kmspgx.Update(ctx, pool, persons, &p, "name")
	if errors.Is(err, kmsencrypted.ErrConflict) {
		fmt.Println("somebody changed the data key: read the record again")
	}

	check(kmspgx.Delete(ctx, pool, persons, &p))
}

// A Lookup finds records by an encrypted value.
func ExampleQuery() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	check(err)
	defer pool.Close()
	persons := newPersons()

	rows, _ := kmspgx.Query(ctx, pool, "SELECT * FROM persons WHERE email_bidx = ANY($1)",
		persons.Lookup("Email", "ADA@example.org", "grace@example.org"))
	list, err := kmspgx.CollectRows(ctx, rows, persons)
	check(err)
	for _, p := range list {
		fmt.Println(p.Name, p.Email.Must())
	}
}

func ExampleCopyFrom() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	check(err)
	defer pool.Close()

	list := make([]Person, 10_000)
	for i := range list {
		list[i] = Person{Name: fmt.Sprint("person ", i), Email: field.New(fmt.Sprintf("person%d@example.org", i))}
	}
	check(kmspgx.CopyFrom(ctx, pool, newPersons(), field.Pointers(list)...))
}

// A Batch writes records and other statements in one round trip, in one transaction.
func ExampleBatch() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	check(err)
	defer pool.Close()
	persons := newPersons()

	rows, _ := pool.Query(ctx, "SELECT * FROM persons WHERE name = $1", "Ada")
	ada, err := kmspgx.CollectOneRow(ctx, rows, persons)
	check(err)
	ada.Email.Set("countess@example.org")
	grace := Person{Name: "Grace", Email: field.New("grace@example.org")}

	var b kmspgx.Batch
	kmspgx.QueueUpdate(&b, persons, &ada)
	kmspgx.QueueInsert(&b, persons, &grace)
	b.Queue("UPDATE counters SET n = n + 1 WHERE name = $1", "persons")
	check(b.Send(ctx, pool))
}
