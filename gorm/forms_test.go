package kmsgorm_test

import (
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/kmsencrypted/kmsencrypted/field"
)

type Secret struct {
	Key   field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Email field.Of[string] `db:"email_ciphertext" gorm:"column:email_ciphertext;type:text"`
}

// Account has GORM's own columns, and encrypted ones in an embedded struct.
type Account struct {
	gorm.Model
	Secret
	Name string
}

func TestEmbeddedModelSQLite(t *testing.T) {
	t.Parallel()
	db := openWith[Account](t, "accounts")
	a := Account{Name: "Ada", Secret: Secret{Email: field.New(ada)}}
	var read, deleted Account
	if err := errors.Join(db.Create(&a).Error, db.First(&read, a.ID).Error); err != nil || read.Email.Must() != ada || read.CreatedAt.IsZero() {
		t.Fatalf("read %q: %v", read.Email.Must(), err)
	}
	if r := db.Model(&read).Update("Email", grace); r.Error != nil || r.RowsAffected != 1 || read.Email.Must() != grace {
		t.Errorf("Update: %d rows, %v", r.RowsAffected, r.Error)
	}
	if err := errors.Join(db.Delete(&read).Error, db.Unscoped().First(&deleted, a.ID).Error); err != nil || deleted.Email.Must() != grace || !deleted.DeletedAt.Valid {
		t.Errorf("deleted softly: %q, %v", deleted.Email.Must(), err)
	}
}

// What a query does not find takes the values of Attrs and Assign, plaintexts too.
func TestFirstOrSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	var made, found, begun Customer
	d.must(d.db.Where(Customer{Name: "Ada"}).Attrs(map[string]any{"email_ciphertext": ada}).FirstOrCreate(&made).Error)
	if got := d.read(made.ID); got.Email.Must() != ada || got.Name != "Ada" {
		t.Errorf("FirstOrCreate made %q %q", got.Email.Must(), got.Name)
	}
	d.must(d.db.Where(Customer{Name: "Ada"}).Attrs(Customer{Email: field.New(grace)}).FirstOrCreate(&found).Error)
	if found.ID != made.ID || found.Email.Must() != ada {
		t.Errorf("FirstOrCreate found %d with %q", found.ID, found.Email.Must())
	}
	d.must(d.db.Where(Customer{Name: "Ada"}).Assign(Customer{Email: field.New(grace)}).FirstOrCreate(&found).Error)
	if got := d.read(made.ID); got.Email.Must() != grace {
		t.Errorf("FirstOrCreate assigned %q", got.Email.Must())
	}
	d.must(d.db.Where(Customer{Name: "nobody"}).Attrs(Customer{Email: field.New(ada)}).FirstOrInit(&begun).Error)
	if begun.ID != 0 || begun.Name != "nobody" || begun.Email.Must() != ada {
		t.Errorf("FirstOrInit: %d %q %q", begun.ID, begun.Name, begun.Email.Must())
	}
}

// Children that were read are saved with their parent, under their own data keys.
func TestFullSaveAssociationsSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := Customer{Name: "Ada", Email: field.New(ada), Orders: []Order{{Note: field.New("one")}, {Note: field.New("two")}}}
	d.must(d.db.Create(&c).Error)
	var read Customer
	d.must(d.db.Preload("Orders").First(&read, c.ID).Error)
	read.Email.Set(grace)
	read.Orders[0].Note.Set("three")
	read.Orders = append(read.Orders, Order{Note: field.New("four")})
	d.must(d.db.Session(&gorm.Session{FullSaveAssociations: true}).Save(&read).Error)
	var orders []Order
	d.must(d.db.Joins("Customer").Order("orders.id").Find(&orders).Error)
	if len(orders) != 3 {
		t.Fatalf("%d orders, want 3", len(orders))
	}
	for i, want := range []string{"three", "two", "four"} {
		if got := orders[i].Note.Must(); got != want || orders[i].Customer.Email.Must() != grace {
			t.Errorf("order %d: %q", i, got)
		}
	}
	// A child is not taken for saved where GORM saves its foreign key alone.
	read.Orders[1].Note.Set("five")
	d.must(d.db.Save(&read).Error)
	d.must(d.db.Save(&read.Orders[1]).Error)
	var order Order
	d.must(d.db.First(&order, read.Orders[1].ID).Error)
	if got := order.Note.Must(); got != "five" {
		t.Errorf("a child that was saved after its parent: %q", got)
	}
	var n int64
	d.must(d.db.Model(&Order{}).Count(&n).Error)
	if n != 3 {
		t.Errorf("%d orders, want 3", n)
	}
}
