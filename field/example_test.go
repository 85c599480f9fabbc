package field_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/url"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// Person is a record with one encrypted column and a blind index of it.
type Person struct {
	ID         int64            `db:"id"`
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

// stored seals a record at version 1 and returns it as the database would.
func stored(id int64, email string) (read Person) {
	p := Person{ID: id, Email: field.New(email)}
	check(personsAt(1).Seal(context.Background(), &p))
	read.ID = id
	check(read.Key.Scan(valueOf(p.Key.Value())))
	check(read.Email.Scan(valueOf(p.Email.Value())))
	check(read.EmailIndex.Scan(valueOf(p.EmailIndex.Value())))
	return read
}

func valueOf[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// NewModel reports every mistake in the tags at once.
func ExampleNewModel() {
	type Broken struct {
		ID    int64            `db:"id"`
		Email field.Of[string] `db:"email_ciphertext"` // no field.Key
	}
	box, err := kmsencrypted.NewBox(testkey.New())
	check(err)
	_, err = field.NewModel[Broken](box, field.Config{Table: "persons"})
	fmt.Println(errors.Is(err, kmsencrypted.ErrConfig))

	type Whole struct {
		Broken
		Key field.Key `db:"encrypted_kms_key"`
	}
	persons, err := field.NewModel[Whole](box, field.Config{Table: "persons"})
	fmt.Println(persons.Table(), err)
	// Output:
	// true
	// persons <nil>
}

// Seal makes the ciphertexts that the columns hold.
func ExampleModel_Seal() {
	ada := Person{ID: 7, Email: field.New("ada@example.org")}
	_, err := ada.Email.Value() // what database/sql would write
	fmt.Println(errors.Is(err, kmsencrypted.ErrUnsealed))

	check(personsAt(1).Seal(context.Background(), &ada))
	column, err := ada.Email.Value()
	fmt.Println(column.(string)[0:1], err)
	// Output:
	// true
	// w <nil>
}

// A copy of a record gets a data key of its own.
func ExampleModel_SealNew() {
	ctx, persons := context.Background(), personsAt(1)
	ada := stored(7, "ada@example.org")
	check(persons.Open(ctx, &ada))

	twin := ada
	twin.ID = 8
	check(persons.SealNew(ctx, &twin))
	fmt.Println(valueOf(twin.Key.Value()) == valueOf(ada.Key.Value()))
	fmt.Println(twin.Email.Must())
	// Output:
	// false
	// ada@example.org
}

// Open decrypts records that were read: many of them with one call.
func ExampleModel_Open() {
	ctx, persons := context.Background(), personsAt(1)
	list := []Person{stored(7, "ada@example.org"), stored(8, "grace@example.org")}
	_, err := list[0].Email.Get()
	fmt.Println(errors.Is(err, kmsencrypted.ErrNotOpened))

	check(persons.Open(ctx, field.Pointers(list)...))
	fmt.Println(list[0].Email.Must(), list[1].Email.Must())
	// Output:
	// true
	// ada@example.org grace@example.org
}

// OpenLazily calls the key service only for records whose fields are asked for.
func ExampleModel_OpenLazily() {
	ctx := context.Background()
	ada := stored(7, "ada@example.org")
	personsAt(1).OpenLazily(&ada)
	fmt.Println(ada.Key.IsOpen())

	email, err := ada.Email.Plain(ctx)
	fmt.Println(email, err, ada.Key.IsOpen())
	// Output:
	// false
	// ada@example.org <nil> true
}

// Lookup finds rows by an encrypted value, and Matches sorts out false hits.
func ExampleModel_Lookup() {
	ctx, persons := context.Background(), personsAt(1)
	sought := persons.Lookup("Email", "ADA@example.org") // the index is of lower(email)
	check(sought.Err())
	fmt.Println("WHERE", sought.Name, "IN", len(sought.Args()), "value")

	for _, p := range []Person{stored(7, "ada@example.org"), stored(8, "grace@example.org")} {
		check(persons.Open(ctx, &p))
		fmt.Println(p.ID, valueOf(sought.Matches(&p)))
	}
	// Output:
	// WHERE email_bidx IN 1 value
	// 7 true
	// 8 false
}

// Rewrap moves a record to the current version and keeps its data key.
func ExampleModel_Rewrap() {
	ada := stored(7, "ada@example.org")
	before, _ := ada.Key.Version()

	check(personsAt(2).Rewrap(context.Background(), &ada))
	after, _ := ada.Key.Version()
	fmt.Println("version", before, "->", after)
	// Output: version 1 -> 2
}

// Rekey gives a record a new data key and seals every field under it.
func ExampleModel_Rekey() {
	ada := stored(7, "ada@example.org")
	before := valueOf(ada.Email.Value())

	check(personsAt(2).Rekey(context.Background(), &ada))
	fmt.Println("same ciphertext:", before == valueOf(ada.Email.Value()))
	// Output: same ciphertext: false
}

// Reindex fills the column of an index that was added later.
func ExampleModel_Reindex() {
	ctx, persons := context.Background(), personsAt(1)
	ada := stored(7, "ada@example.org")
	check(ada.EmailIndex.Scan(nil)) // as it is after ALTER TABLE … ADD COLUMN

	check(persons.Open(ctx, &ada))
	check(persons.Reindex(ctx, &ada))
	write, err := persons.Adapter().Write(&ada)
	check(err)
	for _, column := range write.Set {
		fmt.Println("SET", column.Column)
	}
	// Output: SET email_bidx
}

// DDL defines the columns of the model for CREATE TABLE or ALTER TABLE.
func ExampleModel_DDL() {
	columns, err := personsAt(1).DDL(field.Postgres)
	check(err)
	fmt.Println(strings.Join(columns, ",\n"))
	// Output:
	// "encrypted_kms_key" text,
	// "email_ciphertext" text,
	// "email_bidx" text
}

// CheckConstraint makes the database itself refuse a plaintext.
func ExampleModel_CheckConstraint() {
	constraint, err := personsAt(1).CheckConstraint(field.Postgres)
	check(err)
	name, _, _ := strings.Cut(constraint, " CHECK")
	fmt.Println(name)
	// Output: CONSTRAINT "persons_encrypted"
}

// Get returns an error if a field has no value.
func ExampleOf_Get() {
	var p Person
	_, err := p.Email.Get()
	fmt.Println(errors.Is(err, kmsencrypted.ErrNotLoaded))

	p.Email.Set("ada@example.org")
	email, err := p.Email.Get()
	fmt.Println(email, err)
	// Output:
	// true
	// ada@example.org <nil>
}

// Must is for code right after a record was opened.
func ExampleOf_Must() {
	ada := stored(7, "ada@example.org")
	check(personsAt(1).Open(context.Background(), &ada))
	fmt.Println(ada.Email.Must())
	fmt.Println(ada.Email) // a field never prints its plaintext
	// Output:
	// ada@example.org
	// [redacted]
}

// Set changes a field; Write then lists the column to update.
func ExampleOf_Set() {
	ctx, persons := context.Background(), personsAt(1)
	ada := stored(7, "ada@example.org")
	check(persons.Open(ctx, &ada))

	ada.Email.Set("countess@example.org")
	fmt.Println(ada.Email.IsSet())
	check(persons.Seal(ctx, &ada))
	fmt.Println(ada.Email.IsSet(), ada.Email.Must())
	// Output:
	// true
	// false countess@example.org
}

// SetNull empties the column. NULL reads as the zero value.
func ExampleOf_SetNull() {
	ada := stored(7, "ada@example.org")
	ada.Email.SetNull()
	fmt.Printf("%v %q\n", ada.Email.IsNull(), ada.Email.Must())
	// Output: true ""
}

// Write lists what an UPDATE sets, and what must still be in the row.
func ExampleAdapter_Write() {
	ctx, persons := context.Background(), personsAt(1)
	ada := stored(7, "ada@example.org")
	ada.Email.Set("countess@example.org")
	check(persons.Seal(ctx, &ada))

	write, err := persons.Adapter().Write(&ada)
	check(err)
	for _, column := range write.Set {
		fmt.Println("SET", column.Column)
	}
	for _, column := range write.Where {
		fmt.Println("WHERE", column.Column)
	}
	// Output:
	// SET email_ciphertext
	// SET email_bidx
	// WHERE encrypted_kms_key
}

// AddKey gives a record a data key before it has anything to seal.
func ExampleAdapter_AddKey() {
	ctx, persons := context.Background(), personsAt(1)
	p := Person{ID: 9}
	check(persons.Adapter().AddKey(ctx, "encrypted_kms_key", &p))
	version, has := p.Key.Version()
	fmt.Println(version, has)
	// Output: 1 true
}

// DataKeys returns the data keys for other data under them. The caller wipes them.
func ExampleAdapter_DataKeys() {
	ctx, persons := context.Background(), personsAt(1)
	ada := stored(7, "ada@example.org")
	keys, err := persons.Adapter().DataKeys(ctx, "encrypted_kms_key", &ada)
	check(err)
	defer keys[0].Wipe()
	secret, err := keys[0].Derive("webhook/1", 32)
	fmt.Println(len(secret), err)
	// Output: 32 <nil>
}

// KeyChanged decides what to do when an UPDATE matched no row.
func ExampleAdapter_KeyChanged() {
	ctx, persons := context.Background(), personsAt(1)
	ada := stored(7, "ada@example.org")
	ada.Email.Set("countess@example.org")
	check(persons.Seal(ctx, &ada))

	other := stored(7, "ada@example.org") // another program gave the row a new data key
	now := valueOf(other.Key.Value())
	err := persons.Adapter().KeyChanged(ctx, &ada, "encrypted_kms_key", now)
	fmt.Println(errors.Is(err, kmsencrypted.ErrConflict))
	// Output: true
}

func ExampleLooksEncrypted() {
	for _, column := range []string{"email_ciphertext", "encrypted_kms_key", "email_bidx", "name"} {
		fmt.Println(column, field.LooksEncrypted(column))
	}
	// Output:
	// email_ciphertext true
	// encrypted_kms_key true
	// email_bidx false
	// name false
}

// Plain opens the field of a lazily opened record.
func ExampleOf_Plain() {
	ctx, ada := context.Background(), stored(7, "ada@example.org")
	_, err := ada.Email.Plain(ctx)
	fmt.Println(errors.Is(err, kmsencrypted.ErrNotOpened))

	personsAt(1).OpenLazily(&ada)
	email, err := ada.Email.Plain(ctx)
	fmt.Println(email, err)
	// Output:
	// true
	// ada@example.org <nil>
}

// New makes a field for a new record, and Set changes one that was read.
func ExampleNew() {
	ada := Person{ID: 7, Email: field.New("ada@example.org")}
	fmt.Println(ada.Email.IsSet(), ada.Email.Must())
	fmt.Printf("%v %+v\n", ada.Email, ada.Email)
	// Output:
	// true ada@example.org
	// [redacted] [redacted]
}

// NULL and the empty text differ in the database. Get returns "" for both.
func ExampleOf_IsNull() {
	var null, empty field.Of[string]
	null.SetNull()
	empty.Set("")
	fmt.Println(null.IsNull(), empty.IsNull())
	// Output: true false
}

// Scan reads a column. It keeps the ciphertext until the record is opened.
func ExampleOf_Scan() {
	var email field.Of[string]
	fmt.Println(email.IsLoaded()) // the column was not in the SELECT
	check(email.Scan(valueOf(stored(7, "ada@example.org").Email.Value())))
	fmt.Println(email.IsLoaded(), email)
	// Output:
	// false
	// true [redacted]
}

// Version tells the version of a key column without opening it.
func ExampleKey_Version() {
	version, has := stored(7, "ada@example.org").Key.Version()
	fmt.Println(version, has)
	_, has = new(field.Key).Version()
	fmt.Println(has)
	// Output:
	// 1 true
	// false
}

// Wipe erases the data key and leaves the plaintexts that were opened.
func ExampleKey_Wipe() {
	ada := stored(7, "ada@example.org")
	check(personsAt(1).Open(context.Background(), &ada))
	ada.Key.Wipe()
	fmt.Println(ada.Key.IsOpen(), ada.Email.Must())
	// Output: false ada@example.org
}

// Pointers makes the list of a slice that Open and Seal want.
func ExamplePointers() {
	list := []Person{{ID: 7}, {ID: 8}}
	for _, p := range field.Pointers(list) {
		p.Email.Set("info@example.org")
	}
	check(personsAt(1).Seal(context.Background(), field.Pointers(list)...))
	fmt.Println(list[1].Email.Must(), list[1].Email.IsSet())
	// Output: info@example.org false
}

// Matches compares a row that an index found, because two values can have one index.
func ExampleLookup_Matches() {
	ctx, persons := context.Background(), personsAt(1)
	ada := stored(7, "ada@example.org")
	check(persons.Open(ctx, &ada))
	fmt.Println(valueOf(persons.Lookup("Email", "ADA@example.org").Matches(&ada)))
	fmt.Println(valueOf(persons.Lookup("Email", "grace@example.org").Matches(&ada)))
	// Output:
	// true
	// false
}

// One broken record among many is a Failure. The others were opened.
func ExampleFailures() {
	ctx, persons := context.Background(), personsAt(1)
	list := []Person{stored(7, "ada@example.org"), stored(8, "grace@example.org")}
	check(list[0].Email.Scan("plaintext"))

	err := persons.Open(ctx, field.Pointers(list)...)
	failures, _ := errors.AsType[field.Failures](err)
	for _, f := range failures {
		fmt.Println("record", f.Index, errors.Is(f.Err, kmsencrypted.ErrNotCiphertext))
	}
	fmt.Println(list[1].Email.Must())
	// Output:
	// record 0 true
	// grace@example.org
}

// TypeOf teaches a model to store a type that this package does not know.
func ExampleTypeOf() {
	type Visitor struct {
		ID      int64             `db:"id"`
		Key     field.Key         `db:"encrypted_kms_key"`
		Address field.Of[url.URL] `db:"address_ciphertext" kms:"type=url"`
	}
	text := field.TypeOf("url",
		func(u url.URL) ([]byte, error) { return u.MarshalBinary() },
		func(b []byte) (u url.URL, err error) { return u, u.UnmarshalBinary(b) })
	box, err := kmsencrypted.NewBox(testkey.New())
	check(err)
	visitors, err := field.NewModel[Visitor](box, field.Config{Table: "visitors", Types: []field.Type{text}})
	check(err)

	v := Visitor{ID: 7, Address: field.New(url.URL{Scheme: "https", Host: "example.org"})}
	check(visitors.Seal(context.Background(), &v))
	host := v.Address.Must().Host
	fmt.Println(host)
	// Output: example.org
}
