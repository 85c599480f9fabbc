package kmssqlx_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// Person is a record with one plain and one encrypted column.
type Person struct {
	ID         int64            `db:"id"`
	Name       string           `db:"name"`
	Key        field.Key        `db:"encrypted_kms_key"`
	Email      field.Of[string] `db:"email_ciphertext"`
	EmailIndex field.Index      `db:"email_bidx" kms:"of=Email,expression=lower,algorithm=hmac_sha256"`
}

// personsAt returns the model of a program whose current version is the given one.
// A program would list another key as version 2.
func personsAt(version int) *field.Model[Person] {
	box, err := kmsencrypted.Config{Current: version, Versions: map[int]kmsencrypted.Version{
		1: {Provider: testkey.New()},
		2: {Provider: testkey.New()},
	}}.Box()
	check(err)
	key, err := blindindex.ParseMasterKey(strings.Repeat("42", 32))
	check(err)
	persons, err := field.NewModel[Person](box, field.Config{Table: "persons", IndexKey: key})
	check(err)
	return persons
}

// twoPersons makes a table in memory with two records at version 1.
func twoPersons(ctx context.Context) (*sqlx.DB, *field.Model[Person]) {
	db := sqlx.MustConnect("sqlite", ":memory:")
	db.SetMaxOpenConns(1) // each connection would get a database of its own
	db.MustExec("CREATE TABLE persons (id INTEGER PRIMARY KEY, name TEXT, encrypted_kms_key TEXT, email_ciphertext TEXT, email_bidx TEXT)")
	persons := personsAt(1)
	check(kmssqlx.Insert(ctx, db, persons,
		&Person{Name: "Ada", Email: field.New("ada@example.org")},
		&Person{Name: "Grace", Email: field.New("grace@example.org")}))
	return db, persons
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleInsert() {
	ctx := context.Background()
	db, persons := twoPersons(ctx)
	defer db.Close()

	alan := Person{Name: "Alan", Email: field.New("alan@example.org")}
	check(kmssqlx.Insert(ctx, db, persons, &alan))
	fmt.Println("id", alan.ID)

	var column string
	check(db.Get(&column, "SELECT email_ciphertext FROM persons WHERE id = ?", alan.ID))
	fmt.Println("plaintext in the database:", strings.Contains(column, "alan"))
	// Output:
	// id 3
	// plaintext in the database: false
}

func ExampleGet() {
	ctx := context.Background()
	db, persons := twoPersons(ctx)
	defer db.Close()

	var p Person
	check(kmssqlx.Get(ctx, db, persons, &p, "SELECT * FROM persons WHERE id = ?", 1))
	fmt.Println(p.Name, p.Email.Must())

	err := kmssqlx.Get(ctx, db, persons, &p, "SELECT * FROM persons WHERE id = ?", 99)
	fmt.Println(errors.Is(err, sql.ErrNoRows))
	// Output:
	// Ada ada@example.org
	// true
}

// A Lookup finds a record by an encrypted value.
func ExampleGet_lookup() {
	ctx := context.Background()
	db, persons := twoPersons(ctx)
	defer db.Close()

	var p Person
	check(kmssqlx.Get(ctx, db, persons, &p, "SELECT * FROM persons WHERE email_bidx IN (?)",
		persons.Lookup("Email", "GRACE@example.org")))
	fmt.Println(p.Name)
	// Output: Grace
}

func ExampleSelect() {
	ctx := context.Background()
	db, persons := twoPersons(ctx)
	defer db.Close()

	var list []Person
	check(kmssqlx.Select(ctx, db, persons, &list, "SELECT * FROM persons WHERE id IN (?) ORDER BY id", []int{1, 2}))
	for _, p := range list {
		fmt.Println(p.Name, p.Email.Must())
	}
	// Output:
	// Ada ada@example.org
	// Grace grace@example.org
}

func ExampleNamedGet() {
	ctx := context.Background()
	db, persons := twoPersons(ctx)
	defer db.Close()

	var p Person
	check(kmssqlx.NamedGet(ctx, db, persons, &p, "SELECT * FROM persons WHERE name = :name", map[string]any{"name": "Ada"}))
	fmt.Println(p.Email.Must())
	// Output: ada@example.org
}

func ExampleNamedSelect() {
	ctx := context.Background()
	db, persons := twoPersons(ctx)
	defer db.Close()

	var list []Person
	check(kmssqlx.NamedSelect(ctx, db, persons, &list, "SELECT * FROM persons WHERE email_bidx IN (:email)",
		map[string]any{"email": persons.Lookup("Email", "ada@example.org", "grace@example.org")}))
	fmt.Println(len(list), "found")
	// Output: 2 found
}

// Update writes the encrypted fields that were set, and the plain columns that are
// named.
func ExampleUpdate() {
	ctx := context.Background()
	db, persons := twoPersons(ctx)
	defer db.Close()

	var p Person
	check(kmssqlx.Get(ctx, db, persons, &p, "SELECT * FROM persons WHERE id = 1"))
	p.Name = "Ada King"
	p.Email.Set("countess@example.org")
	check(kmssqlx.Update(ctx, db, persons, &p, "name"))

	check(kmssqlx.Get(ctx, db, persons, &p, "SELECT * FROM persons WHERE id = 1"))
	fmt.Println(p.Name, p.Email.Must())
	// Output: Ada King countess@example.org
}

// An update of a row that another program rekeyed is refused.
func ExampleUpdate_conflict() {
	ctx := context.Background()
	db, persons := twoPersons(ctx)
	defer db.Close()

	var mine, theirs Person
	check(kmssqlx.Get(ctx, db, persons, &mine, "SELECT * FROM persons WHERE id = 1"))
	check(kmssqlx.Get(ctx, db, persons, &theirs, "SELECT * FROM persons WHERE id = 1"))
	check(kmssqlx.Rekey(ctx, db, persons, &theirs))

	mine.Email.Set("countess@example.org")
	err := kmssqlx.Update(ctx, db, persons, &mine)
	fmt.Println(errors.Is(err, kmsencrypted.ErrConflict))
	// Output: true
}

// Rewrap moves one record to the current version. Its data key stays.
func ExampleRewrap() {
	ctx := context.Background()
	db, _ := twoPersons(ctx)
	defer db.Close()
	persons := personsAt(2)

	var p Person
	check(kmssqlx.Get(ctx, db, persons, &p, "SELECT * FROM persons WHERE id = 1"))
	check(kmssqlx.Rewrap(ctx, db, persons, &p))
	version, _ := p.Key.Version()
	fmt.Println("version", version)
	// Output: version 2
}

// Rekey seals one record under a new data key.
func ExampleRekey() {
	ctx := context.Background()
	db, persons := twoPersons(ctx)
	defer db.Close()

	var before, after string
	var p Person
	check(kmssqlx.Get(ctx, db, persons, &p, "SELECT * FROM persons WHERE id = 1"))
	check(db.Get(&before, "SELECT email_ciphertext FROM persons WHERE id = 1"))
	check(kmssqlx.Rekey(ctx, db, persons, &p))
	check(db.Get(&after, "SELECT email_ciphertext FROM persons WHERE id = 1"))
	fmt.Println("same ciphertext:", before == after)
	// Output: same ciphertext: false
}

func ExampleDelete() {
	ctx := context.Background()
	db, persons := twoPersons(ctx)
	defer db.Close()

	check(kmssqlx.Delete(ctx, db, persons, &Person{ID: 1}))
	err := kmssqlx.Delete(ctx, db, persons, &Person{ID: 1})
	fmt.Println(errors.Is(err, sql.ErrNoRows))
	// Output: true
}
