// GORM: customers in embedded SQLite, sealed and opened by a plugin. It shows
// what lies in the database, which of GORM's calls are refused because they would
// write or compare plaintext, and that two writers do not overwrite each other.
//
//	go run ./examples/gorm
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// Customer is a row of the table customers. The tag db is for package field, the
// tag gorm for GORM; an encrypted column needs a type there.
type Customer struct {
	ID    int64            `db:"id"`
	Name  string           `db:"name"`
	Key   field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Email field.Of[string] `db:"email_ciphertext" gorm:"column:email_ciphertext;type:text"`
	Index field.Index      `db:"email_bidx" gorm:"column:email_bidx;type:text" kms:"of=Email,expression=lower"`
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "gorm")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	customers, err := newModel(dir)
	if err != nil {
		return err
	}
	db, err := open(filepath.Join(dir, "app.sqlite3"), customers)
	if err != nil {
		return err
	}
	db = db.WithContext(ctx)

	people := []Customer{
		{Name: "Ada", Email: field.New("ada@example.org")},
		{Name: "Grace", Email: field.New("grace@example.org")},
	}
	if err := db.Create(&people).Error; err != nil {
		return err
	}
	fmt.Fprintln(out, "What lies in the database:")
	if err := dump(db, out); err != nil {
		return err
	}

	var list []Customer
	if err := db.Order("name").Find(&list).Error; err != nil {
		return err
	}
	fmt.Fprintln(out, "\nWhat the program sees:")
	for _, c := range list {
		fmt.Fprintf(out, "  %-5s  %s\n", c.Name, c.Email.Must())
	}

	var found []Customer
	if err := db.Where(kmsgorm.Matches(customers.Lookup("Email", "ADA@example.org"))).Find(&found).Error; err != nil {
		return err
	}
	fmt.Fprintf(out, "\nFound by address: %s\n", found[0].Name)

	fmt.Fprintln(out, "\nWhat is refused:")
	refused(db, out, list[0])
	return twoWriters(db, out, list[0].ID)
}

// refused tries what would put plaintext into the database or its logs.
func refused(db *gorm.DB, out io.Writer, ada Customer) {
	const address = "ada@example.net"
	for _, call := range []struct {
		what string
		err  error
	}{
		{"Updates of many rows", db.Model(&Customer{}).Where("true").Updates(Customer{Email: field.New(address)}).Error},
		{"a map and a table's name", db.Table("customers").Create(map[string]any{"email_ciphertext": address}).Error},
		{"a search by plaintext", db.First(&Customer{}, "email_ciphertext = ?", address).Error},
		{"Pluck of ciphertexts", db.Model(&Customer{}).Pluck("email_ciphertext", &[]string{}).Error},
	} {
		fmt.Fprintf(out, "  %s:\n    %v\n", call.what, call.err)
	}
}

// twoWriters changes a record while another process gives it a new data key.
func twoWriters(db *gorm.DB, out io.Writer, id int64) error {
	var mine, theirs Customer
	if err := db.First(&mine, id).Error; err != nil {
		return err
	}
	if err := db.Delete(&Customer{}, id).Error; err != nil {
		return err
	}
	theirs = Customer{ID: id, Name: "Ada", Email: field.New("ada@example.com")}
	if err := db.Create(&theirs).Error; err != nil {
		return err
	}
	mine.Email.Set("ada@example.net")
	fmt.Fprintf(out, "  a record that was replaced meanwhile:\n    %v\n", db.Save(&mine).Error)
	if err := db.First(&mine, id).Error; err != nil {
		return err
	}
	mine.Email.Set("ada@example.net")
	if err := db.Save(&mine).Error; err != nil {
		return err
	}
	fmt.Fprintf(out, "\nRead again and saved: %s\n", mine.Email.Must())
	return nil
}

func newModel(dir string) (*field.Model[Customer], error) {
	// A key file made on the spot. In production: providers/aws, gcp or vault.
	key, err := local.Create(filepath.Join(dir, "keys.txt"))
	if err != nil {
		return nil, err
	}
	box, err := kmsencrypted.NewBox(key)
	if err != nil {
		return nil, err
	}
	indexKey, err := blindindex.NewMasterKey([]byte("32 bytes from a secret manager!!"))
	if err != nil {
		return nil, err
	}
	return field.NewModel[Customer](box, field.Config{Table: "customers", IndexKey: indexKey})
}

// open opens the database with the plugin in GORM, and the last wall behind it: a
// constraint by which the database itself refuses plaintext.
func open(path string, customers *field.Model[Customer]) (*gorm.DB, error) {
	// GORM's driver for SQLite on a database that needs no cgo.
	db, err := gorm.Open(sqlite.New(sqlite.Config{DriverName: "sqlite", DSN: path}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	wall, err := customers.CheckConstraint(field.SQLite)
	if err != nil {
		return nil, err
	}
	const columns = "id INTEGER PRIMARY KEY, name TEXT, encrypted_kms_key TEXT, email_ciphertext TEXT, email_bidx TEXT"
	if err := db.Exec("CREATE TABLE customers (" + columns + ", " + wall + ")").Error; err != nil {
		return nil, err
	}
	return db, db.Use(kmsgorm.New(customers))
}

// dump prints the rows as they are stored.
func dump(db *gorm.DB, out io.Writer) error {
	rows, err := db.Raw("SELECT name, encrypted_kms_key, email_ciphertext FROM customers ORDER BY name").Rows()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name, key, email string
		if err := rows.Scan(&name, &key, &email); err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-5s  key %s…  email %s…\n", name, key[:14], email[:14])
	}
	return rows.Err()
}
