package kmsgorm_test

import (
	"errors"
	"strings"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
)

func TestFindSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for range 5 {
		d.ada()
	}
	d.kms.Forget()
	var list []Customer
	d.must(d.db.Order("id").Find(&list).Error)
	if n := d.kms.Count(kmsencrypted.OpUnwrap); len(list) != 5 || n != 5 {
		t.Errorf("%d records with %d unwraps, want 5 with 5", len(list), n)
	}
	for _, c := range list {
		if c.Email.Must() != ada {
			t.Errorf("Email = %q", c.Email.Must())
		}
	}
	var pointers []*Customer
	d.must(d.db.Session(&gorm.Session{SkipHooks: true}).Find(&pointers).Error)
	if pointers[4].Email.Must() != ada {
		t.Error("not opened without hooks")
	}
	batches := 0
	d.must(d.db.FindInBatches(&list, 2, func(tx *gorm.DB, _ int) error {
		batches++
		for _, c := range list {
			if c.Email.Must() != ada {
				return errors.New("not opened")
			}
		}
		return nil
	}).Error)
	if batches != 3 {
		t.Errorf("%d batches, want 3", batches)
	}
	d.must(d.db.Create(&Customer{ID: 50, Email: field.New(ada)}).Error)
	d.must(d.db.Create(&Customer{ID: 51}).Error)
	d.must(d.db.Create(&Order{ID: 1}).Error)
	var null Customer
	d.must(d.db.First(&null, 50).Error)
	if number, err := null.Phone.Get(); number != nil || err != nil || !null.Phone.IsNull() {
		t.Errorf("Get of NULL = %v, %v", number, err)
	}
	var empty Customer
	d.must(d.db.First(&empty, 51).Error)
	if !empty.Key.IsNull() || !empty.Email.IsNull() {
		t.Error("NULL columns of an empty record are not read")
	}
	empty.Email.Set(grace)
	d.must(d.db.Save(&empty).Error)
	if got := d.read(51).Email.Must(); got != grace {
		t.Errorf("first value of a record: %q", got)
	}
	var alone Order
	d.must(d.db.Joins("Customer").First(&alone, "orders.id = 1").Error)
	if alone.Customer != nil {
		t.Error("Joins makes a customer of nothing")
	}
	var none Customer
	d.wantError("First", d.db.First(&none, 999).Error, gorm.ErrRecordNotFound)
}

func TestLazilySQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	d.ada()
	d.ada()
	for name, db := range map[string]*gorm.DB{"scope": d.db.Scopes(kmsgorm.Lazily), "session": kmsgorm.Lazily(d.db)} {
		d.kms.Forget()
		var list []Customer
		d.must(db.Find(&list).Error)
		if n := d.kms.Count(kmsencrypted.OpUnwrap); n != 0 {
			t.Errorf("%s: %d unwraps before a value was asked for", name, n)
		}
		if got, err := list[0].Email.Plain(t.Context()); got != ada || err != nil {
			t.Errorf("%s: Plain() = %q, %v", name, got, err)
		}
		if n := d.kms.Count(kmsencrypted.OpUnwrap); n != 1 {
			t.Errorf("%s: %d unwraps for one record", name, n)
		}
	}
}

// One damaged record is an error and does not hide the others.
func TestDamagedSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	first, second := d.ada(), d.ada()
	_, err := d.raw.Exec("UPDATE customers SET email_ciphertext = (SELECT email_ciphertext FROM customers WHERE id = ?) WHERE id = ?", second.ID, first.ID)
	d.must(err)
	var list []Customer
	d.wantError("Find", d.db.Order("id").Find(&list).Error, kmsencrypted.ErrOtherDataKey)
	if len(list) != 2 || list[1].Email.Must() != ada {
		t.Error("a damaged record hides another")
	}
}

func TestReadsAroundTheRecordSQLite(t *testing.T) {
	t.Parallel()
	type view struct {
		ID              int64
		EmailCiphertext string
	}
	sealed := map[string]struct {
		want error
		call func(db *gorm.DB) *gorm.DB
	}{
		"Where(text)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB { return db.Where("email_ciphertext = ?", ada).Find(&[]Customer{}) }},
		"Where(quoted text)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB {
			return db.Where("name = ? AND `customers`.`email_ciphertext`  LIKE ?", "x", ada).Find(&[]Customer{})
		}},
		"Where(IN)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB {
			return db.Where("email_ciphertext IN ?", []string{ada}).Find(&[]Customer{})
		}},
		"Where(named)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB {
			return db.Where("email_ciphertext = @e", map[string]any{"e": ada}).Find(&[]Customer{})
		}},
		"Where(map)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB {
			return db.Where(map[string]any{"email_ciphertext": ada}).Find(&[]Customer{})
		}},
		"Where(maps of lists)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB {
			return db.Where(map[string]any{"email_ciphertext": []string{ada}}).Find(&[]Customer{})
		}},
		"Where(struct)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB { return db.Where(&Customer{Email: field.New(ada)}).Find(&[]Customer{}) }},
		"Where(index)":  {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB { return db.Where("email_bidx = ?", ada).Find(&[]Customer{}) }},
		"Or": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB {
			return db.Where("id = 1").Or("email_ciphertext = ?", ada).Find(&[]Customer{})
		}},
		"Not":           {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB { return db.Not("email_ciphertext = ?", ada).Find(&[]Customer{}) }},
		"First(inline)": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB { return db.First(&Customer{}, "email_ciphertext = ?", ada) }},
		"Table.Where": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB {
			return db.Table("customers").Where("email_ciphertext = ?", ada).Find(&[]map[string]any{})
		}},
		"Count": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB {
			return db.Model(&Customer{}).Where("email_ciphertext = ?", ada).Count(new(int64))
		}},
		"Delete": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB { return db.Where("email_ciphertext = ?", ada).Delete(&Customer{}) }},
		"Updates": {kmsencrypted.ErrUnsealed, func(db *gorm.DB) *gorm.DB {
			return db.Model(&Customer{}).Where("email_ciphertext = ?", ada).Update("name", "x")
		}},
		"Pluck(strings)":   {kmsencrypted.ErrNotOpened, func(db *gorm.DB) *gorm.DB { return db.Model(&Customer{}).Pluck("email_ciphertext", &[]string{}) }},
		"Pluck(field)":     {kmsencrypted.ErrNotOpened, func(db *gorm.DB) *gorm.DB { return db.Model(&Customer{}).Pluck("Email", &[]string{}) }},
		"Table.Find(maps)": {kmsencrypted.ErrNotOpened, func(db *gorm.DB) *gorm.DB { return db.Table("customers").Find(&[]map[string]any{}) }},
		"Table.Take(map)":  {kmsencrypted.ErrNotOpened, func(db *gorm.DB) *gorm.DB { return db.Table("customers").Take(&map[string]any{}) }},
		"Take(map)":        {kmsencrypted.ErrNotOpened, func(db *gorm.DB) *gorm.DB { return db.Model(&Customer{}).Take(&map[string]any{}) }},
		"Find(maps)": {kmsencrypted.ErrNotOpened, func(db *gorm.DB) *gorm.DB {
			return db.Model(&Customer{}).Select("id, email_ciphertext").Find(&[]map[string]any{})
		}},
		"Find into other struct": {kmsencrypted.ErrNotOpened, func(db *gorm.DB) *gorm.DB { return db.Model(&Customer{}).Find(&[]view{}) }},
	}
	d := setup(t)
	c := d.ada()
	for name, s := range sealed {
		err := s.call(d.db).Error
		d.wantError(name, err, s.want)
		if err != nil && strings.Contains(err.Error(), ada) {
			t.Errorf("%s: the plaintext is in the error: %v", name, err)
		}
	}
	// What is fine stays so.
	type keyed struct {
		ID              int64
		EmailCiphertext field.Of[string] `gorm:"type:text"`
	}
	var emails []field.Of[string]
	for name, call := range map[string]func(db *gorm.DB) *gorm.DB{
		"IS NOT NULL": func(db *gorm.DB) *gorm.DB {
			return db.Where("email_ciphertext IS NOT NULL AND name = ?", "Ada").First(&Customer{})
		},
		"nil": func(db *gorm.DB) *gorm.DB {
			return db.Where(map[string]any{"email_ciphertext": nil}).Find(&[]Customer{})
		},
		"the ciphertext itself": func(db *gorm.DB) *gorm.DB { return db.Where("email_ciphertext = ?", c.Email).First(&Customer{}) },
		"the key column":        func(db *gorm.DB) *gorm.DB { return db.Where("encrypted_kms_key NOT LIKE ?", "v2:%").First(&Customer{}) },
		"Pluck another column":  func(db *gorm.DB) *gorm.DB { return db.Model(&Customer{}).Pluck("name", &[]string{}) },
		"Pluck as fields":       func(db *gorm.DB) *gorm.DB { return db.Model(&Customer{}).Pluck("email_ciphertext", &emails) },
		"typed fields":          func(db *gorm.DB) *gorm.DB { return db.Model(&Customer{}).Find(&[]keyed{}) },
		"a map without":         func(db *gorm.DB) *gorm.DB { return db.Model(&Customer{}).Select("id", "name").Take(&map[string]any{}) },
	} {
		if err := call(d.db).Error; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(emails) != 1 {
		t.Fatalf("Pluck as fields found %d", len(emails))
	}
	if _, err := emails[0].Get(); !errors.Is(err, kmsencrypted.ErrNotOpened) {
		t.Errorf("Get of a plucked field: %v, want ErrNotOpened", err)
	}
}

func TestMatchesSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	d.ada()
	d.must(d.db.Create(&Customer{Email: field.New(grace)}).Error)
	d.must(d.db.Create(&Customer{Name: "none"}).Error)
	for name, c := range map[string]struct {
		lookup field.Lookup
		want   int
	}{
		"one":       {d.customers.Lookup("Email", "ADA@example.org"), 1},
		"several":   {d.customers.Lookup("Email", ada, grace, "nobody"), 2},
		"NULL":      {d.customers.Lookup("Email", nil), 1},
		"NULL or":   {d.customers.Lookup("Email", nil, ada), 2},
		"nothing":   {d.customers.Lookup("Email"), 0},
		"not there": {d.customers.Lookup("Email", "nobody"), 0},
	} {
		var list []Customer
		d.must(d.db.Where(kmsgorm.Matches(c.lookup)).Where("id > 0").Find(&list).Error)
		if len(list) != c.want {
			t.Errorf("%s: %d records, want %d", name, len(list), c.want)
		}
	}
	err := d.db.Where(kmsgorm.Matches(d.customers.Lookup("Phone", ada))).Find(&[]Customer{}).Error
	d.wantError("an index that is not there", err, kmsencrypted.ErrConfig)
}

func TestUseChecksModels(t *testing.T) {
	t.Parallel()
	type Person struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"encrypted_kms_key" gorm:"column:key;type:text"`
		Email field.Of[string] `db:"email_ciphertext" gorm:"column:email_ciphertext;type:text"`
	}
	d := setup(t)
	box, err := kmsencrypted.NewBox(d.kms.Provider())
	d.must(err)
	people, err := field.NewModel[Person](box, field.Config{Table: "persons"})
	d.must(err)
	err = kmsgorm.New(people).Initialize(d.db)
	d.wantError("Use", err, kmsencrypted.ErrConfig)
	for _, part := range []string{`"people"`, `"encrypted_kms_key"`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("Use: %v, want it to name %s", err, part)
		}
	}
	d.wantError("Use of a nil model", kmsgorm.New((*field.Model[Person])(nil)).Initialize(d.db), kmsencrypted.ErrConfig)
	d.wantError("Use of no model", kmsgorm.New(nil).Initialize(d.db), kmsencrypted.ErrConfig)
}

// Hooks of the program see plaintext: they run before sealing and after opening.
type Hooked struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Note  field.Of[string] `db:"note_ciphertext" gorm:"column:note_ciphertext;type:text"`
	Found string           `gorm:"-"`
}

func (h *Hooked) BeforeSave(*gorm.DB) error { h.Note.Set(ada); return nil }

func (h *Hooked) AfterFind(*gorm.DB) (err error) {
	h.Found, err = h.Note.Get()
	return err
}

func TestHooksAndMigrationSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	box, err := kmsencrypted.NewBox(d.kms.Provider())
	d.must(err)
	hooked, err := field.NewModel[Hooked](box, field.Config{Table: "hookeds"})
	d.must(err)
	db, err := gorm.Open(sqlite.New(sqlite.Config{Conn: d.raw}), &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(db.Use(kmsgorm.New(hooked)))
	d.must(db.AutoMigrate(&Hooked{}))
	h := Hooked{Note: field.New(grace)}
	d.must(db.Create(&h).Error)
	var read Hooked
	d.must(db.First(&read, h.ID).Error)
	if read.Found != ada {
		t.Errorf("AfterFind sees %q", read.Found)
	}
	// The hook sets a value in a model that was never read: GORM writes the new values alone.
	d.must(db.Model(&Hooked{ID: h.ID}).Updates(Hooked{Found: "x"}).Error)
	var again Hooked
	d.must(db.First(&again, h.ID).Error)
	if again.Found != ada {
		t.Errorf("a hook on an empty model left %q", again.Found)
	}
}

func TestDryRunSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	c.Email.Set(grace)
	for name, sql := range map[string]string{
		"Create": d.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Create(&Customer{ID: 9, Email: field.New(ada)}) }),
		"Save":   d.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Save(c) }),
	} {
		if !strings.Contains(sql, "email_ciphertext") || strings.Contains(sql, ada) || strings.Contains(sql, grace) {
			t.Errorf("%s: %s", name, sql)
		}
	}
	d.must(d.db.Save(c).Error) // the dry run wrote nothing
	if got := d.read(c.ID).Email.Must(); got != grace {
		t.Errorf("saved after a dry run: %q", got)
	}
}
