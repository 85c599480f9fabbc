package kmsgorm_test

import (
	"errors"
	"strings"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func TestCreateSQLite(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]*gorm.Config{
		"default": {}, "without transaction": {SkipDefaultTransaction: true}, "prepared": {PrepareStmt: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := setupWith(t, config)
			c := d.ada() // the database gives the id
			if got := d.read(c.ID); got.Email.Must() != ada || *got.Phone.Must() != phone || got.Name != "Ada" {
				t.Errorf("stored %q %q", got.Email.Must(), got.Name)
			}
			known := &Customer{ID: 77, Email: field.New(grace)}
			d.must(d.db.Create(known).Error)
			if got := d.read(77); got.Email.Must() != grace || !got.Phone.IsNull() {
				t.Errorf("stored under a given id: %q", got.Email.Must())
			}
			list := []*Customer{{Email: field.New(ada)}, {Email: field.New(grace)}, {ID: 90, Name: "no secret"}}
			d.must(d.db.Create(list).Error)
			for i, want := range []string{ada, grace, ""} {
				if got := d.read(list[i].ID); got.Email.Must() != want {
					t.Errorf("record %d of a list: %q, want %q", i, got.Email.Must(), want)
				}
			}
			batch := []Customer{{Email: field.New(ada)}, {Email: field.New(grace)}, {Email: field.New(ada)}}
			d.must(d.db.CreateInBatches(batch, 2).Error)
			if got := d.read(batch[2].ID); got.Email.Must() != ada {
				t.Errorf("record of a batch: %q", got.Email.Must())
			}
			c.Email.Set(grace)
			d.must(d.db.Save(c).Error)
			if got := d.read(c.ID).Email.Must(); got != grace {
				t.Errorf("saved after Create: %q", got)
			}
		})
	}
}

func TestCreateRollsBackSQLite(t *testing.T) {
	t.Parallel()
	for _, config := range []*gorm.Config{{}, {SkipDefaultTransaction: true}} {
		d := setupWith(t, config)
		d.kms.Set(kmstest.Unavailable(1))
		err := d.db.Create(&Customer{Name: "Ada", Email: field.New(ada)}).Error
		d.wantError("Create", err, kmsencrypted.ErrUnavailable)
		var n int64
		d.must(d.db.Model(&Customer{}).Count(&n).Error)
		if n != 0 {
			t.Errorf("%d rows are left of a Create that failed", n)
		}
	}
}

func TestCreateOfARecordTwiceSQLite(t *testing.T) {
	t.Parallel()
	d := setupWith(t, &gorm.Config{})
	for _, id := range []int64{0, 7} {
		c := &Customer{ID: id, Name: "Ada", Email: field.New(ada)}
		d.wantError("Create", d.db.Create([]*Customer{c, c}).Error, kmsencrypted.ErrConfig)
		var n int64
		d.must(d.db.Model(&Customer{}).Count(&n).Error)
		if n != 0 {
			t.Errorf("%d rows of a record that was listed twice", n)
		}
		d.must(d.db.Create([]*Customer{c}).Error)
		d.must(d.db.Delete(c).Error)
	}
}

// The leaks of plain GORM, each of them an error before anything is sent.
func TestWritesAroundTheRecordSQLite(t *testing.T) {
	t.Parallel()
	type patch struct {
		Name            string
		EmailCiphertext string
	}
	values := func() map[string]any { return map[string]any{"name": "x", "email_ciphertext": grace} }
	leaks := map[string]struct {
		want error
		call func(db *gorm.DB, c *Customer) *gorm.DB
	}{
		"Updates(map) of an expression": {kmsencrypted.ErrUnsealed, func(db *gorm.DB, c *Customer) *gorm.DB {
			return db.Model(c).Updates(map[string]any{`"customers"."email_ciphertext"`: gorm.Expr("?", grace)})
		}},
		"Update(index)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB, c *Customer) *gorm.DB { return db.Model(c).Update("email_bidx", grace) }},
		"Update(key)":   {kmsencrypted.ErrUnsealed, func(db *gorm.DB, c *Customer) *gorm.DB { return db.Model(c).Update("encrypted_kms_key", nil) }},
		"Update of many": {kmsencrypted.ErrUnsealed, func(db *gorm.DB, _ *Customer) *gorm.DB {
			return db.Model(&Customer{}).Where("1 = 1").Update("Email", grace)
		}},
		"Update(column) with a type that is not the field's": {kmsencrypted.ErrUnsealed, func(db *gorm.DB, c *Customer) *gorm.DB { return db.Model(c).Update("email_ciphertext", 17) }},
		"Update(column) with another record's": {errors.ErrUnsupported, func(db *gorm.DB, c *Customer) *gorm.DB {
			other := Customer{ID: 2, Email: field.New(grace)}
			if err := db.Create(&other).Error; err != nil {
				return db
			}
			db.Delete(&other)
			return db.Model(c).Update("email_ciphertext", other.Email)
		}},
		"Clauses(Set)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB, c *Customer) *gorm.DB {
			return db.Model(c).Clauses(clause.Assignments(values())).Updates(map[string]any{})
		}},
		"Table.Updates(map)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB, _ *Customer) *gorm.DB {
			return db.Table("customers").Where("id = 1").Updates(values())
		}},
		"Table.Create(map)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB, _ *Customer) *gorm.DB { return db.Table("customers").Create(values()) }},
		"Create(map)":       {kmsencrypted.ErrUnsealed, func(db *gorm.DB, _ *Customer) *gorm.DB { return db.Model(&Customer{}).Create(values()) }},
		"Create(maps)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB, _ *Customer) *gorm.DB {
			return db.Model(&Customer{}).Create([]map[string]any{values()})
		}},
		"Updates(other type)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB, c *Customer) *gorm.DB { return db.Model(c).Updates(patch{EmailCiphertext: grace}) }},
		"Create(other type)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB, _ *Customer) *gorm.DB {
			return db.Table("customers").Create(&patch{EmailCiphertext: grace})
		}},
		"Updates(struct) of many": {errors.ErrUnsupported, func(db *gorm.DB, _ *Customer) *gorm.DB {
			return db.Model(&Customer{}).Where("1 = 1").Updates(Customer{Email: field.New(grace)})
		}},
		"Update(id)": {errors.ErrUnsupported, func(db *gorm.DB, c *Customer) *gorm.DB { return db.Model(c).Update("id", 1234) }},
		"Updates(struct) with another id": {errors.ErrUnsupported, func(db *gorm.DB, c *Customer) *gorm.DB {
			return db.Model(c).Updates(Customer{ID: 1234, Name: "x"})
		}},
		"OnConflict Assignments(map)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB, c *Customer) *gorm.DB {
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.Assignments(values())}).Create(&Customer{ID: c.ID, Email: field.New(ada)})
		}},
		"OnConflict AssignmentColumns by another column": {errors.ErrUnsupported, func(db *gorm.DB, c *Customer) *gorm.DB {
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, DoUpdates: clause.AssignmentColumns([]string{"email_ciphertext"})}).Create(&Customer{Name: c.Name, Email: field.New(grace)})
		}},
		"OnConflict of another column": {kmsencrypted.ErrUnsealed, func(db *gorm.DB, c *Customer) *gorm.DB {
			set := clause.Set{{Column: clause.Column{Name: "email_ciphertext"}, Value: clause.Column{Table: "excluded", Name: "phone_ciphertext"}}}
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: set}).Create(&Customer{ID: c.ID, Email: field.New(grace)})
		}},
		"OnConflict UpdateAll of another column": {errors.ErrUnsupported, func(db *gorm.DB, c *Customer) *gorm.DB {
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, UpdateAll: true}).Create(&Customer{Name: c.Name, Email: field.New(grace)})
		}},
		"Create by value": {errors.ErrUnsupported, func(db *gorm.DB, _ *Customer) *gorm.DB { return db.Create(Customer{Email: field.New(grace)}) }},
	}
	for name, leak := range leaks {
		t.Run(name, func(t *testing.T) {
			d := setup(t)
			c := d.ada()
			before := d.columns(c.ID)
			err := leak.call(d.db, c).Error
			d.wantError(name, err, leak.want)
			if err != nil && strings.Contains(err.Error(), grace) {
				t.Errorf("the plaintext is in the error: %v", err)
			}
			if after := d.columns(c.ID); after != before {
				t.Errorf("the row changed:\n%s\n%s", before, after)
			}
			var n int
			d.must(d.raw.QueryRow("SELECT count(*) FROM customers").Scan(&n))
			if n != 1 {
				t.Errorf("%d rows, want 1", n)
			}
		})
	}
}

// An upsert writes under the data key that the stored row has.
func TestUpsertSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	before := d.columns(c.ID)
	d.must(d.db.Clauses(clause.OnConflict{DoNothing: true}).Create(&Customer{ID: c.ID, Email: field.New(grace)}).Error)
	if after := d.columns(c.ID); after != before {
		t.Error("DoNothing did something")
	}
	upsert := clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"name"})}
	d.must(d.db.Clauses(upsert).Create(&Customer{ID: c.ID, Name: "Augusta", Email: field.New(grace)}).Error)
	if got := d.read(c.ID); got.Name != "Augusta" || got.Email.Must() != ada {
		t.Errorf("upsert of another column: %q %q", got.Name, got.Email.Must())
	}
	d.kms.Forget()
	list := []Customer{{ID: c.ID, Name: "Grace", Email: field.New(grace)}, {ID: 99, Email: field.New(ada)}}
	d.must(d.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&list).Error)
	if wraps, unwraps := d.kms.Count(kmsencrypted.OpWrap), d.kms.Count(kmsencrypted.OpUnwrap); wraps != 1 || unwraps != 1 {
		t.Errorf("an upsert of a new record and one that is stored takes %d wraps and %d unwraps, want one each", wraps, unwraps)
	}
	got := d.read(c.ID)
	if got.Name != "Grace" || got.Email.Must() != grace || *got.Phone.Must() != phone {
		t.Errorf("UpdateAll of a record that was never read: %q %q %v", got.Name, got.Email.Must(), got.Phone.Must())
	}
	if key, _ := got.Key.Value(); !strings.Contains(before, key.(string)) {
		t.Error("the row has another data key after an upsert")
	}
	if got := d.read(99); got.Email.Must() != ada {
		t.Errorf("a new record in an upsert: %q", got.Email.Must())
	}
}

// An upsert of many rows takes a call for each and few statements.
func TestUpsertOfManySQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	var mine, stored []Customer
	for id := range int64(1000) {
		stored = append(stored, Customer{ID: id + 1, Photo: field.New([]byte("old"))})
		mine = append(mine, Customer{ID: id + 1, Photo: field.New([]byte("new"))})
	}
	d.must(d.db.Create(&stored).Error)
	statements := 0
	count := func(*gorm.DB) { statements++ }
	d.must(errors.Join(d.db.Callback().Query().After("gorm:query").Register("count", count),
		d.db.Callback().Create().After("gorm:create").Register("count", count),
		d.db.Callback().Update().After("gorm:update").Register("count", count)))
	d.kms.Forget()
	d.must(d.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&mine).Error)
	if calls := d.kms.Count(kmsencrypted.OpUnwrap) + d.kms.Count(kmsencrypted.OpWrap); calls > 1000 || statements > 4 {
		t.Errorf("%d calls and %d statements, want at most 1000 and 4", calls, statements)
	}
	if got := d.read(777); string(got.Photo.Must()) != "new" {
		t.Errorf("stored %q", got.Photo.Must())
	}
}

// Save of a list is one upsert.
func TestSaveOfReadRecordsSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	first, second := d.ada(), d.ada()
	var list []Customer
	d.must(d.db.Order("id").Find(&list).Error)
	d.kms.Forget()
	list[0].Email.Set(grace)
	list[1].Name = "Augusta"
	list = append(list, Customer{Email: field.New(grace)})
	result := d.db.Save(&list)
	d.must(result.Error)
	if result.RowsAffected != 3 || d.kms.Count(kmsencrypted.OpUnwrap) != 0 {
		t.Errorf("%d rows with %d unwraps, want 3 and none", result.RowsAffected, d.kms.Count(kmsencrypted.OpUnwrap))
	}
	if got := d.read(first.ID); got.Email.Must() != grace || *got.Phone.Must() != phone {
		t.Errorf("first: %q", got.Email.Must())
	}
	if got := d.read(second.ID); got.Email.Must() != ada || got.Name != "Augusta" {
		t.Errorf("second: %q %q", got.Email.Must(), got.Name)
	}
	if got := d.read(list[2].ID); got.Email.Must() != grace {
		t.Errorf("new one: %q", got.Email.Must())
	}
}

// What touches another column never writes an encrypted one.
func TestOtherColumnsSQLite(t *testing.T) {
	t.Parallel()
	calls := map[string]func(db *gorm.DB, id int64) *gorm.DB{
		"Updates(map)": func(db *gorm.DB, id int64) *gorm.DB {
			return db.Model(&Customer{ID: id}).Updates(map[string]any{"name": "x"})
		},
		"Update":               func(db *gorm.DB, id int64) *gorm.DB { return db.Model(&Customer{ID: id}).Update("name", "x") },
		"UpdateColumn":         func(db *gorm.DB, id int64) *gorm.DB { return db.Model(&Customer{ID: id}).UpdateColumn("name", "x") },
		"Updates(struct)":      func(db *gorm.DB, id int64) *gorm.DB { return db.Model(&Customer{ID: id}).Updates(Customer{Name: "x"}) },
		"Updates(same struct)": func(db *gorm.DB, id int64) *gorm.DB { return db.Updates(&Customer{ID: id, Name: "x"}) },
		"Updates of many": func(db *gorm.DB, id int64) *gorm.DB {
			return db.Model(&Customer{}).Where("id = ?", id).Updates(&Customer{Name: "x"})
		},
		"Save of an empty one": func(db *gorm.DB, id int64) *gorm.DB { return db.Save(&Customer{ID: id, Name: "x"}) },
		"Select(other).Updates": func(db *gorm.DB, id int64) *gorm.DB {
			return db.Select("name").Updates(&Customer{ID: id, Name: "x", Email: field.New(grace)})
		},
		"Omit(one).Save": func(db *gorm.DB, id int64) *gorm.DB {
			return db.Omit("Email").Save(&Customer{ID: id, Name: "x", Email: field.New(grace)})
		},
		"Save of a read one": func(db *gorm.DB, id int64) *gorm.DB {
			var c Customer
			db.First(&c, id)
			c.Name = "x"
			return db.Save(&c)
		},
		"Save of a partly read one": func(db *gorm.DB, id int64) *gorm.DB {
			var c Customer
			db.Select("id", "name", "phone_ciphertext", "encrypted_kms_key").First(&c, id)
			c.Name = "x"
			return db.Save(&c)
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			d := setup(t)
			c := d.ada()
			before := d.columns(c.ID)
			result := call(d.db, c.ID)
			d.must(result.Error)
			if result.RowsAffected != 1 {
				t.Errorf("RowsAffected = %d, want 1", result.RowsAffected)
			}
			if got, want := d.columns(c.ID), "x"+strings.TrimPrefix(before, "Ada"); got != want {
				t.Errorf("row:\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestUpdateSQLite(t *testing.T) {
	t.Parallel()
	for name, update := range map[string]func(db *gorm.DB, c *Customer) error{
		"Save": func(db *gorm.DB, c *Customer) error { c.Email.Set(grace); return db.Save(c).Error },
		"Save twice": func(db *gorm.DB, c *Customer) error {
			c.Email.Set(grace)
			return errors.Join(db.Save(c).Error, db.Save(c).Error, db.Save(c).Error)
		},
		"Updates":               func(db *gorm.DB, c *Customer) error { c.Email.Set(grace); return db.Updates(c).Error },
		"Updates without hooks": func(db *gorm.DB, c *Customer) error { c.Email.Set(grace); return db.UpdateColumns(c).Error },
		"Updates(struct)": func(db *gorm.DB, c *Customer) error {
			return db.Model(c).Updates(Customer{Email: field.New(grace)}).Error
		},
		"Updates(map)": func(db *gorm.DB, c *Customer) error {
			return db.Model(c).Updates(map[string]any{"name": "x", "email_ciphertext": grace}).Error
		},
		"Updates(map) by field": func(db *gorm.DB, c *Customer) error {
			return db.Model(c).Updates(map[string]any{"Email": grace}).Error
		},
		"Updates(map) in capitals": func(db *gorm.DB, c *Customer) error {
			return db.Model(c).Updates(map[string]any{"EMAIL_CIPHERTEXT": grace}).Error
		},
		"Updates(map) of a field": func(db *gorm.DB, c *Customer) error {
			return db.Model(c).Updates(map[string]any{"Email": field.New(grace)}).Error
		},
		"Update":       func(db *gorm.DB, c *Customer) error { return db.Model(c).Update("email_ciphertext", grace).Error },
		"UpdateColumn": func(db *gorm.DB, c *Customer) error { return db.Model(c).UpdateColumn("Email", grace).Error },
		"UpdateColumns": func(db *gorm.DB, c *Customer) error {
			return db.Model(c).UpdateColumns(map[string]any{"Email": grace}).Error
		},
		"FirstOrCreate Assign": func(db *gorm.DB, c *Customer) error {
			return db.Assign(map[string]any{"email_ciphertext": grace}).FirstOrCreate(c, "id = ?", c.ID).Error
		},
		"Save of one that was not read": func(db *gorm.DB, c *Customer) error {
			*c = Customer{ID: c.ID, Name: "Grace", Email: field.New(grace)}
			return db.Save(c).Error
		},
		"Update of one that was not read": func(db *gorm.DB, c *Customer) error {
			*c = Customer{ID: c.ID}
			return db.Model(c).Update("Email", grace).Error
		},

		"Updates(pointer)": func(db *gorm.DB, c *Customer) error {
			return db.Model(c).Updates(&Customer{ID: c.ID, Email: field.New(grace)}).Error
		},
		"Select": func(db *gorm.DB, c *Customer) error { c.Email.Set(grace); return db.Select("Email").Updates(c).Error },
		"Returning": func(db *gorm.DB, c *Customer) error {
			c.Email.Set(grace)
			return db.Clauses(clause.Returning{}).Updates(c).Error
		},
		"after another column was not read": func(db *gorm.DB, c *Customer) error {
			part := Customer{}
			if err := db.Select("id", "encrypted_kms_key").First(&part, c.ID).Error; err != nil {
				return err
			}
			part.Email.Set(grace)
			*c = part
			return db.Updates(c).Error
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := setup(t)
			id := d.ada().ID
			var c Customer
			d.must(d.db.First(&c, id).Error)
			d.must(update(d.db, &c))
			got := d.read(id)
			if got.Email.Must() != grace || got.Phone.Must() == nil || *got.Phone.Must() != phone {
				t.Errorf("stored %q %v", got.Email.Must(), got.Phone.Must())
			}
			if c.Email.Must() != grace {
				t.Errorf("in memory %q", c.Email.Must())
			}
			c.Email.SetNull()
			d.must(d.db.Save(&c).Error)
			if got := d.read(id); !got.Email.IsNull() {
				t.Error("SetNull and Save leave a ciphertext")
			}
		})
	}
}

func TestSaveOfANewRecordSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := Customer{ID: 5, Email: field.New(ada)}
	d.must(d.db.Save(&c).Error) // finds no row and inserts it
	d.must(d.db.Save(&c).Error)
	if got := d.read(5).Email.Must(); got != ada {
		t.Errorf("stored %q", got)
	}
	list := []Customer{{Email: field.New(ada)}, {ID: 8, Email: field.New(grace)}}
	d.must(d.db.Save(&list).Error)
	if got := d.read(8).Email.Must(); got != grace {
		t.Errorf("stored %q", got)
	}
}

func TestConflictSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	id := d.ada().ID
	stale := d.read(id)

	rekeyed := d.read(id)
	before := rekeyed.Key
	d.must(d.customers.Rekey(d.Context(), &rekeyed))
	_, err := d.raw.Exec("UPDATE customers SET encrypted_kms_key = ?, email_ciphertext = ?, phone_ciphertext = ? WHERE id = ? AND encrypted_kms_key IS ?",
		rekeyed.Key, rekeyed.Email, rekeyed.Phone, id, before)
	d.must(err)
	stored := d.columns(id)
	stale.Email.Set(grace)
	stale.Name = "lost"
	d.wantError("Save after a rekey", d.db.Save(&stale).Error, kmsencrypted.ErrConflict)
	if got := d.columns(id); got != stored {
		t.Errorf("a conflict wrote\n%s\nover\n%s", got, stored)
	}

	gone := d.read(id)
	d.must(d.db.Delete(&Customer{}, id).Error)
	gone.Email.Set(grace)
	d.wantError("Save of a deleted record", d.db.Save(&gone).Error, kmsencrypted.ErrConflict)
	gone = Customer{}
	var n int64
	d.must(d.db.Model(&gone).Count(&n).Error)
	if n != 0 {
		t.Error("Save brought a deleted record back")
	}
}

// A rewrap in between changes the key column and keeps the data key.
func TestRewrappedMeanwhileSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	id := d.ada().ID
	var c Customer
	d.must(d.db.First(&c, id).Error)

	rewrapped := d.read(id)
	before := rewrapped.Key
	next, _ := d.models(2)
	d.must(next.Rewrap(d.Context(), &rewrapped))
	_, err := d.raw.Exec("UPDATE customers SET encrypted_kms_key = ? WHERE id = ? AND encrypted_kms_key IS ?", rewrapped.Key, id, before)
	d.must(err)

	c.Email.Set(grace)
	c.Name = "Grace"
	d.must(d.db.Save(&c).Error)
	got := d.read(id)
	version, _ := got.Key.Version()
	if got.Email.Must() != grace || got.Name != "Grace" || version != 2 {
		t.Errorf("stored %q %q version %d", got.Email.Must(), got.Name, version)
	}
}

func TestAssociationsSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := Customer{Name: "Ada", Email: field.New(ada), Orders: []Order{{Note: field.New(grace)}, {Note: field.New(phone)}}}
	d.must(d.db.Create(&c).Error)
	var read Customer
	d.must(d.db.Preload("Orders").First(&read, c.ID).Error)
	if len(read.Orders) != 2 || read.Orders[1].Note.Must() != phone || read.Email.Must() != ada {
		t.Errorf("Preload: %d orders", len(read.Orders))
	}
	read.Name = "Augusta"
	d.must(d.db.Save(&read).Error) // its orders are upserted with DoNothing
	var orders []Order
	d.must(d.db.Joins("Customer").Order("orders.id").Find(&orders).Error)
	if len(orders) != 2 || orders[0].Note.Must() != grace || orders[0].Customer.Email.Must() != ada {
		t.Errorf("Joins: %d orders", len(orders))
	}
}

// Resident has a plain column that an encrypted one replaces.
type Resident struct {
	ID      int64             `db:"id"`
	Name    string            `db:"name"`
	OldCity *string           `db:"city" gorm:"column:city"`
	Key     field.Key         `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	City    field.Of[*string] `db:"city_ciphertext" kms:"migrating=OldCity" gorm:"column:city_ciphertext;type:text"`
}

func TestMigratingSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	box, err := kmsencrypted.NewBox(d.kms.Provider())
	d.must(err)
	residents, err := field.NewModel[Resident](box, field.Config{Table: "residents"})
	d.must(err)
	db, err := gorm.Open(sqlite.New(sqlite.Config{Conn: d.raw}), &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(db.Use(kmsgorm.New(residents)))
	d.must(db.AutoMigrate(&Resident{}))
	d.must(d.exec("INSERT INTO residents (id, city) VALUES (1, 'Paris'), (2, 'Bern')"))
	want := func(what string, id int64, plain, sealed string) {
		t.Helper()
		var old string
		r := Resident{ID: id}
		d.must(d.raw.QueryRow("SELECT city, encrypted_kms_key, city_ciphertext FROM residents WHERE id = ?", id).Scan(&old, &r.Key, &r.City))
		d.must(residents.Adapter().OpenStored(t.Context(), &r))
		got := ""
		if c := r.City.Must(); c != nil {
			got = *c
		}
		if old != plain || got != sealed {
			t.Errorf("%s: the columns hold %q and %q, want %q and %q", what, old, got, plain, sealed)
		}
	}
	want("before", 1, "Paris", "")

	var r, stale Resident
	d.must(db.First(&r, 1).Error)
	d.must(db.Save(&r).Error)
	want("filled", 1, "Paris", "Paris")
	r.City.Set(new("Rome"))
	d.must(db.Save(&r).Error)
	want("saved", 1, "Rome", "Rome")
	d.must(db.Model(&r).Updates(Resident{City: field.New(new("Oslo"))}).Error)
	want("updated", 1, "Oslo", "Oslo")
	d.must(db.Create(&Resident{ID: 3, City: field.New(new("Wien"))}).Error)
	want("created", 3, "Wien", "Wien")

	d.must(db.First(&stale, 2).Error)
	d.must(d.exec("UPDATE residents SET city = 'Lyon' WHERE id = 2"))
	d.wantError("filling a row that changed", db.Updates(&stale).Error, kmsencrypted.ErrConflict)
	want("changed by a program of before", 2, "Lyon", "")
}

func (d *database) exec(statement string) error {
	_, err := d.raw.Exec(statement)
	return err
}

// What an UPDATE returns is opened, also where the record was not read before.
func TestReturningSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	one := Customer{ID: c.ID}
	r := d.db.Model(&one).Clauses(clause.Returning{}).Update("name", "Augusta")
	if r.Error != nil || r.RowsAffected != 1 || one.Name != "Augusta" || one.Email.Must() != ada || *one.Phone.Must() != phone {
		t.Errorf("Update: %d rows, %v, %q", r.RowsAffected, r.Error, one.Name)
	}
	var plain []map[string]any
	d.must(d.db.Table("customers").Select("id", "name").Find(&plain).Error)
	if len(plain) != 1 || plain[0]["name"] != "Augusta" {
		t.Errorf("plain columns in maps: %v", plain)
	}
}
