package kmsgorm_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"strings"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// Person is a record with one plain and one encrypted column. GORM needs a type for
// each encrypted column.
type Person struct {
	ID         int64            `db:"id"`
	Name       string           `db:"name"`
	Key        field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Email      field.Of[string] `db:"email_ciphertext" gorm:"column:email_ciphertext;type:text"`
	EmailIndex field.Index      `db:"email_bidx" gorm:"column:email_bidx;type:text" kms:"of=Email,expression=lower,algorithm=hmac_sha256"`
}

// TableName is GORM's name of the table, which would be "people" otherwise.
func (Person) TableName() string { return "persons" }

// openPersons opens a database in memory with the plugin.
func openPersons() (*gorm.DB, *field.Model[Person]) {
	box, err := kmsencrypted.NewBox(testkey.New())
	check(err)
	key, err := blindindex.ParseMasterKey(strings.Repeat("42", 32))
	check(err)
	persons, err := field.NewModel[Person](box, field.Config{Table: "persons", IndexKey: key})
	check(err)

	conn, err := sql.Open("sqlite", ":memory:")
	check(err)
	conn.SetMaxOpenConns(1) // each connection would get a database of its own
	db, err := gorm.Open(sqlite.New(sqlite.Config{Conn: conn}), &gorm.Config{Logger: logger.Discard})
	check(err)
	check(db.AutoMigrate(&Person{}))
	check(db.Use(kmsgorm.New(persons)))
	check(db.Create(&[]Person{
		{Name: "Ada", Email: field.New("ada@example.org")},
		{Name: "Grace", Email: field.New("grace@example.org")},
	}).Error)
	return db, persons
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Create seals a record and inserts it.
func ExampleNew() {
	db, _ := openPersons()
	alan := Person{Name: "Alan", Email: field.New("alan@example.org")}
	check(db.Create(&alan).Error)

	var column string
	check(db.Raw("SELECT email_ciphertext FROM persons WHERE id = ?", alan.ID).Scan(&column).Error)
	fmt.Println("id", alan.ID, "plaintext in the database:", strings.Contains(column, "alan"))
	// Output: id 3 plaintext in the database: false
}

// Find opens all records that it reads, with the data keys unwrapped side by side.
func ExamplePlugin_find() {
	db, _ := openPersons()
	var list []Person
	check(db.Order("id").Find(&list).Error)
	for _, p := range list {
		fmt.Println(p.Name, p.Email.Must())
	}
	// Output:
	// Ada ada@example.org
	// Grace grace@example.org
}

// Save seals what was set, and writes nothing else of the encrypted columns.
func ExamplePlugin_save() {
	db, _ := openPersons()
	var p Person
	check(db.First(&p, 1).Error)
	p.Email.Set("countess@example.org")
	check(db.Save(&p).Error)

	var again Person
	check(db.First(&again, 1).Error)
	fmt.Println(again.Name, again.Email.Must())
	// Output: Ada countess@example.org
}

// A plaintext in a map would reach the database, so it is refused.
func ExamplePlugin_refused() {
	db, _ := openPersons()
	err := db.Where("email_ciphertext = ?", "ada@example.org").Find(&[]Person{}).Error
	fmt.Println(errors.Is(err, kmsencrypted.ErrUnsealed))
	// Output: true
}

// Matches finds records by an encrypted value.
func ExampleMatches() {
	db, persons := openPersons()
	sought := persons.Lookup("Email", "GRACE@example.org")
	var list []Person
	check(db.Where(kmsgorm.Matches(sought)).Find(&list).Error)
	for _, p := range list {
		hit, err := sought.Matches(&p)
		fmt.Println(p.Name, hit, err)
	}
	// Output: Grace true <nil>
}

// Lazily leaves records closed until a field is asked for.
func ExampleLazily() {
	db, _ := openPersons()
	var list []Person
	check(db.Scopes(kmsgorm.Lazily).Order("id").Find(&list).Error)
	fmt.Println("open:", list[0].Key.IsOpen())

	email, err := list[0].Email.Plain(context.Background())
	fmt.Println(email, err)
	// Output:
	// open: false
	// ada@example.org <nil>
}
