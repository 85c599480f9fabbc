package kmsgorm_test

import (
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

func TestRetriesSQLite(t *testing.T) {
	d := setup(t)
	retries(d, d.db)
}

// retries repeats writes with the same struct after they were rolled back, in a
// new transaction and after a savepoint.
func retries(d *database, db *gorm.DB) {
	d.Helper()
	failed := errors.New("as after a serialization failure")
	retried := func(savepoint bool, do func(*gorm.DB) error) {
		d.Helper()
		twice := func(outer *gorm.DB) error {
			err := outer.Transaction(func(tx *gorm.DB) error { d.must(do(tx)); return failed })
			if !errors.Is(err, failed) {
				return err
			}
			return outer.Transaction(do)
		}
		if savepoint {
			d.must(db.Transaction(twice))
		} else {
			d.must(twice(db))
		}
	}
	check := func(what string, id int64, email string) {
		d.Helper()
		var got Customer
		d.must(db.Omit("Orders").First(&got, id).Error)
		if got.Email.Must() != email {
			d.Errorf("%s: another value is in the row", what)
		}
	}
	for _, savepoint := range []bool{false, true} {
		c := Customer{Name: "new", Email: field.New(ada)}
		retried(savepoint, func(tx *gorm.DB) error { return tx.Create(&c).Error })
		check("Create", c.ID, ada)

		saved, between, first := Customer{Name: "saved", Email: field.New(ada)}, Customer{Name: "between", Email: field.New(grace)}, true
		retried(savepoint, func(tx *gorm.DB) error {
			if !first { // somebody takes the id that was given back
				d.must(tx.Create(&between).Error)
			}
			first = false
			return tx.Save(&saved).Error
		})
		check("Save of a new record", saved.ID, ada)
		check("what came between", between.ID, grace)

		var read Customer
		d.must(db.First(&read, c.ID).Error)
		read.Email.Set(grace)
		retried(savepoint, func(tx *gorm.DB) error { return tx.Save(&read).Error })
		check("Save", c.ID, grace)
		read.Photo.Set([]byte("x"))
		d.must(db.Save(&read).Error)
		check("Save of another field", c.ID, grace)

		// What GORM committed itself is not sent again.
		other := read
		other.Email.Set(ada)
		d.must(db.Save(&other).Error)
		read.Photo.Set([]byte("y"))
		d.must(db.Save(&read).Error)
		check("Save beside another field", c.ID, ada)

		// What may have been rolled back reverts nothing.
		d.must(db.First(&read, c.ID).Error)
		read.Email.Set(grace)
		d.must(db.Transaction(func(tx *gorm.DB) error { return tx.Save(&read).Error }))
		d.must(db.First(&other, c.ID).Error)
		other.Email.Set(ada)
		d.must(db.Save(&other).Error)
		read.Photo.Set([]byte("z"))
		d.wantError("Save that would send an old value", db.Save(&read).Error, kmsencrypted.ErrConflict)
		check("what somebody else saved", c.ID, ada)
	}
}
