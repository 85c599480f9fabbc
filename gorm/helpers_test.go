package kmsgorm_test

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type Customer struct {
	ID         int64             `db:"id"`
	Name       string            `db:"name"`
	Key        field.Key         `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Email      field.Of[string]  `db:"email_ciphertext" gorm:"column:email_ciphertext;type:text"`
	Phone      field.Of[*string] `db:"phone_ciphertext" gorm:"column:phone_ciphertext;type:text"`
	Photo      field.Of[[]byte]  `db:"photo_ciphertext" kms:"binary" gorm:"column:photo_ciphertext;type:blob"`
	EmailIndex field.Index       `db:"email_bidx" kms:"of=Email,expression=lower,algorithm=pbkdf2_sha256" gorm:"column:email_bidx;type:text"`
	Orders     []Order
}

type Order struct {
	ID         int64            `db:"id"`
	CustomerID int64            `db:"customer_id"`
	Customer   *Customer        `gorm:"foreignKey:CustomerID"`
	Key        field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Note       field.Of[string] `db:"note_ciphertext" gorm:"column:note_ciphertext;type:text"`
}

const schema = `
CREATE TABLE customers (
	id INTEGER PRIMARY KEY,
	name TEXT,
	encrypted_kms_key TEXT,
	email_ciphertext TEXT,
	phone_ciphertext TEXT,
	photo_ciphertext BLOB,
	email_bidx TEXT
);
CREATE TABLE orders (
	id INTEGER PRIMARY KEY,
	customer_id INTEGER,
	encrypted_kms_key TEXT,
	note_ciphertext TEXT
);`

// Plaintexts that must never reach the database.
const (
	ada   = "ada@example.org"
	grace = "grace@example.org"
	phone = "+44 20 7946 0958"
)

// logCanary fails a test when GORM's log, at its most talkative, has a plaintext.
type logCanary struct{ *testing.T }

func (l logCanary) Printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for i, secret := range []string{ada, grace, phone} {
		if strings.Contains(text, secret) {
			l.Errorf("secret %d is in GORM's log", i)
		}
	}
}

// database is a fresh database behind a canary, with the plugin in GORM.
type database struct {
	*testing.T
	db        *gorm.DB
	raw       *sql.DB
	customers *field.Model[Customer]
	orders    *field.Model[Order]
	kms       *kmstest.Service
	next      kmsencrypted.Provider // of version 2
}

func setup(t *testing.T) *database {
	t.Helper()
	return setupWith(t, &gorm.Config{})
}

func setupWith(t *testing.T, config *gorm.Config) *database {
	t.Helper()
	d := &database{T: t}
	d.raw = kmstest.Canary(t, "sqlite", filepath.Join(t.TempDir(), "app.sqlite3"), ada, grace, phone)
	_, err := d.raw.Exec(schema)
	d.must(err)
	d.kms, d.next = kmstest.NewService(kmstest.Memory()), kmstest.Memory()
	d.customers, d.orders = d.models(1)
	config.Logger = logger.New(logCanary{t}, logger.Config{LogLevel: logger.Info})
	d.db, err = gorm.Open(sqlite.New(sqlite.Config{Conn: d.raw}), config)
	d.must(err)
	d.must(d.db.Use(kmsgorm.New(d.customers, d.orders)))
	return d
}

// models writes with a version; the other can be read.
func (d *database) models(current int) (*field.Model[Customer], *field.Model[Order]) {
	d.Helper()
	box, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: {Provider: d.kms.Provider()}, 2: {Provider: d.next}}}.Box()
	d.must(err)
	indexKey, err := blindindex.NewMasterKey(make([]byte, blindindex.KeySize))
	d.must(err)
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers", IndexKey: indexKey})
	d.must(err)
	orders, err := field.NewModel[Order](box, field.Config{Table: "orders"})
	d.must(err)
	return customers, orders
}

func (d *database) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// ada inserts a customer.
func (d *database) ada() *Customer {
	d.Helper()
	number := phone
	c := &Customer{Name: "Ada", Email: field.New(ada), Phone: field.New(&number)}
	d.must(d.db.Create(c).Error)
	return c
}

// read reads a customer without the plugin and opens it.
func (d *database) read(id int64) (c Customer) {
	d.Helper()
	row := d.raw.QueryRow("SELECT id, name, encrypted_kms_key, email_ciphertext, phone_ciphertext, photo_ciphertext, email_bidx FROM customers WHERE id = ?", id)
	d.must(row.Scan(&c.ID, &c.Name, &c.Key, &c.Email, &c.Phone, &c.Photo, &c.EmailIndex))
	d.must(d.customers.Open(d.Context(), &c))
	return c
}

// columns is the whole row as text.
func (d *database) columns(id int64) string {
	d.Helper()
	var text [6]sql.NullString
	row := d.raw.QueryRow("SELECT name, encrypted_kms_key, email_ciphertext, phone_ciphertext, photo_ciphertext, email_bidx FROM customers WHERE id = ?", id)
	d.must(row.Scan(&text[0], &text[1], &text[2], &text[3], &text[4], &text[5]))
	var b strings.Builder
	for _, s := range text {
		b.WriteString(s.String + "|")
	}
	return b.String()
}

func (d *database) wantError(what string, got, want error) {
	d.Helper()
	if !errors.Is(got, want) {
		d.Errorf("%s: error %v, want %v", what, got, want)
	}
}
