package kmsgorm_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// A plaintext beside an encrypted column is refused, whatever the form.
func TestConditionsSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	d.must(d.db.Create(&Order{CustomerID: c.ID, Note: field.New("a note")}).Error)
	type mail field.Of[string]
	list := func() *[]Customer { return new([]Customer) }
	orders := func() *[]Order { return new([]Order) }
	sub := func() *gorm.DB { return d.db.Model(&Customer{}).Select("id").Where("email_ciphertext = ?", ada) }
	email := clause.Column{Table: "customers", Name: "email_ciphertext"}
	plain := field.New(ada)
	var boxed any = plain
	for name, call := range map[string]func(db *gorm.DB) *gorm.DB{
		"function": func(db *gorm.DB) *gorm.DB { return db.Where("lower(email_ciphertext) = ?", ada).Find(list()) },
		"function with words": func(db *gorm.DB) *gorm.DB {
			return db.Where("trim(both ' ' from email_ciphertext) = ?", ada).Find(list())
		},
		"reversed":           func(db *gorm.DB) *gorm.DB { return db.Where("? = email_ciphertext", ada).Find(list()) },
		"reversed in a list": func(db *gorm.DB) *gorm.DB { return db.Where("? IN (name, email_ciphertext)", ada).Find(list()) },
		"tuples": func(db *gorm.DB) *gorm.DB {
			return db.Where("(name, email_ciphertext) IN ?", [][]any{{"x", ada}}).Find(list())
		},
		"having": func(db *gorm.DB) *gorm.DB {
			return db.Group("id").Having("max(email_ciphertext) = ?", ada).Find(list())
		},
		"having an alias": func(db *gorm.DB) *gorm.DB {
			return db.Select("id, max(email_ciphertext) AS m").Group("id").Having("m = ?", ada).Find(list())
		},
		"order": func(db *gorm.DB) *gorm.DB {
			return db.Clauses(clause.OrderBy{Expression: clause.Expr{SQL: "email_ciphertext = ? DESC", Vars: []any{ada}}}).Find(list())
		},
		"case": func(db *gorm.DB) *gorm.DB {
			return db.Where("CASE WHEN email_ciphertext = ? THEN 1 ELSE 0 END = 1", ada).Find(list())
		},
		"between": func(db *gorm.DB) *gorm.DB { return db.Where("email_ciphertext BETWEEN ? AND ?", ada, ada).Find(list()) },
		"alias of the table": func(db *gorm.DB) *gorm.DB {
			return db.Table("customers AS c").Where("c.email_ciphertext = ?", ada).Find(list())
		},
		"joins with a group": func(db *gorm.DB) *gorm.DB {
			return db.Joins("Customer", db.Where("email_ciphertext = ?", ada)).Find(orders())
		},
		"joins with a struct": func(db *gorm.DB) *gorm.DB {
			return db.Joins("Customer", db.Where(&Customer{Email: plain})).Find(orders())
		},
		"joins and where": func(db *gorm.DB) *gorm.DB {
			return db.Joins("Customer").Where("Customer.email_ciphertext = ?", ada).Find(orders())
		},
		"joins and clause": func(db *gorm.DB) *gorm.DB {
			return db.Joins("Customer").Where(clause.Eq{Column: clause.Column{Table: "Customer", Name: "email_ciphertext"}, Value: ada}).Find(orders())
		},
		"joins and its name": func(db *gorm.DB) *gorm.DB {
			return db.Joins("Customer").Group("orders.id").Having("Customer__email_ciphertext = ?", ada).Find(orders())
		},
		"raw join": func(db *gorm.DB) *gorm.DB {
			return db.Joins("JOIN customers c ON c.email_ciphertext = ?", ada).Find(orders())
		},
		"clauses": func(db *gorm.DB) *gorm.DB { return db.Where(clause.Gt{Column: email, Value: ada}).Find(list()) },
		"or not": func(db *gorm.DB) *gorm.DB {
			return db.Where(clause.Or(clause.Not(clause.Eq{Column: email, Value: ada}))).Find(list())
		},
		"subquery":             func(db *gorm.DB) *gorm.DB { return db.Where("id IN (?)", sub()).Find(list()) },
		"not in a subquery":    func(db *gorm.DB) *gorm.DB { return db.Where("id NOT IN (?)", sub()).Find(list()) },
		"delete by a subquery": func(db *gorm.DB) *gorm.DB { return db.Where("id NOT IN (?)", sub()).Delete(&Order{}) },
		"update by a subquery": func(db *gorm.DB) *gorm.DB {
			return db.Model(&Order{}).Where("id NOT IN (?)", sub()).Update("customer_id", 5)
		},
		"exec by a subquery": func(db *gorm.DB) *gorm.DB { return db.Exec("DELETE FROM orders WHERE id NOT IN (?)", sub()) },
		"subquery of a struct": func(db *gorm.DB) *gorm.DB {
			return db.Where("id NOT IN (?)", db.Model(&Customer{}).Select("id").Where(&Customer{Email: plain})).Delete(&Order{})
		},
		"from a subquery": func(db *gorm.DB) *gorm.DB {
			return db.Table("(?) AS x", db.Model(&Customer{})).Where("x.email_ciphertext = ?", ada).Find(&[]map[string]any{})
		},
		"pointer":         func(db *gorm.DB) *gorm.DB { s := ada; return db.Where("email_ciphertext = ?", &s).Find(list()) },
		"bytes":           func(db *gorm.DB) *gorm.DB { return db.Where("email_ciphertext = ?", []byte(ada)).Find(list()) },
		"field elsewhere": func(db *gorm.DB) *gorm.DB { return db.Where("name = ?", plain).Find(list()) },
		"field in any":    func(db *gorm.DB) *gorm.DB { return db.Where("name IN ?", []any{boxed, &boxed}).Find(list()) },
		"derived type":    func(db *gorm.DB) *gorm.DB { return db.Where("name = ?", mail(plain)).Find(list()) },
		"map, alias of the table": func(db *gorm.DB) *gorm.DB {
			return db.Table("customers AS c").Where("id = 1").Updates(map[string]any{"email_ciphertext": ada})
		},
		"map to create, alias": func(db *gorm.DB) *gorm.DB {
			return db.Table("customers AS c").Create(map[string]any{"email_ciphertext": ada})
		},
		"named": func(db *gorm.DB) *gorm.DB {
			return db.Where("email_ciphertext = @e", map[string]any{"e": ada}).Find(list())
		},
		"soft words": func(db *gorm.DB) *gorm.DB {
			return db.Where("email_ciphertext IS NOT DISTINCT FROM ?", ada).Find(list())
		},
		"comment": func(db *gorm.DB) *gorm.DB { return db.Where("email_ciphertext /* ' */ = ?", ada).Find(list()) },
	} {
		err := call(d.db.Session(&gorm.Session{})).Error
		d.wantError(name, err, kmsencrypted.ErrUnsealed)
		if err != nil && strings.Contains(err.Error(), ada) {
			t.Errorf("%s: the plaintext is in the error", name)
		}
	}
	var n int64
	d.must(d.db.Model(&Order{}).Count(&n).Error)
	if n != 1 {
		t.Errorf("%d orders, want 1: a refused condition was left out", n)
	}
}

// What only looks alike is none of our business.
func TestConditionsOfOthersSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	d.must(d.db.Create(&Order{ID: 1, CustomerID: c.ID}).Error)
	d.must(d.exec("CREATE TABLE letters (id INTEGER, customer_id INTEGER, email_ciphertext TEXT)"))
	d.must(d.exec("INSERT INTO letters VALUES (1, 1, 'x')"))
	for name, call := range map[string]func(db *gorm.DB) *gorm.DB{
		"another table": func(db *gorm.DB) *gorm.DB { return db.Table("letters").Where("email_ciphertext = ?", "x") },
		"another table, joined": func(db *gorm.DB) *gorm.DB {
			return db.Model(&Customer{}).Joins("JOIN letters l ON l.customer_id = customers.id AND l.email_ciphertext = ?", "x")
		},
		"a string literal": func(db *gorm.DB) *gorm.DB { return db.Model(&Customer{}).Where("'email_ciphertext' || ? <> ''", "x") },
		"beside IS NOT NULL": func(db *gorm.DB) *gorm.DB {
			return db.Model(&Customer{}).Where("(email_ciphertext IS NOT NULL AND name = ?)", "Ada")
		},
		"a nil": func(db *gorm.DB) *gorm.DB { return db.Model(&Customer{}).Where("photo_ciphertext IS ?", nil) },
		"a nil pointer": func(db *gorm.DB) *gorm.DB {
			return db.Model(&Customer{}).Where("photo_ciphertext IS ?", (*string)(nil))
		},
		"the ciphertext": func(db *gorm.DB) *gorm.DB { return db.Model(&Customer{}).Where("email_ciphertext = ?", c.Email) },
		"ciphertexts": func(db *gorm.DB) *gorm.DB {
			return db.Model(&Customer{}).Where("email_ciphertext IN ?", []any{c.Email})
		},
		"selected, ordered": func(db *gorm.DB) *gorm.DB {
			return db.Model(&Customer{}).Select("id, email_ciphertext, ? AS x", 1).Where("name = ?", "Ada").Order("email_ciphertext").Limit(1)
		},
		"a subquery": func(db *gorm.DB) *gorm.DB {
			return db.Model(&Order{}).Where("customer_id IN (?)", db.Model(&Customer{}).Select("id").Where("name = ? AND email_ciphertext IS NOT NULL", "Ada"))
		},
		"columns of two tables": func(db *gorm.DB) *gorm.DB {
			return db.Model(&Customer{}).Joins("JOIN letters l ON l.email_ciphertext <> customers.email_ciphertext")
		},
	} {
		var n int64
		if err := call(d.db.Session(&gorm.Session{})).Count(&n).Error; err != nil || n != 1 {
			t.Errorf("%s: %d rows, %v", name, n, err)
		}
	}
}

// A statement whose text was seen with another value is not allowed for that.
func TestConditionsOfSeenTextsSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	d.ada()
	for i, test := range []struct {
		value any
		want  error
	}{{nil, nil}, {ada, kmsencrypted.ErrUnsealed}, {nil, nil}, {grace, kmsencrypted.ErrUnsealed}} {
		if err := d.db.Where("email_ciphertext = ?", test.value).Find(new([]Customer)).Error; !errors.Is(err, test.want) {
			t.Errorf("Find %d: %v, want %v", i, err, test.want)
		}
	}
	for i := range 1100 { // more texts than are remembered
		d.must(d.db.Where(fmt.Sprintf("%d = %[1]d AND email_ciphertext = ?", i), nil).Find(new([]Customer)).Error)
	}
	d.wantError("Find", d.db.Where("email_ciphertext = ?", ada).Find(new([]Customer)).Error, kmsencrypted.ErrUnsealed)
}
