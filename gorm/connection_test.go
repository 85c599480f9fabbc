package kmsgorm_test

import (
	"context"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// The key service is not called while a statement's own transaction holds a
// connection, except where doc.go says so.
func TestHeldConnectionSQLite(t *testing.T) {
	t.Parallel()
	closed := func(d *database) *Customer {
		var c Customer
		d.must(d.db.Scopes(func(db *gorm.DB) *gorm.DB { return db.Set("kmsencrypted:lazily", true) }).First(&c, 1).Error)
		return &c
	}
	for name, c := range map[string]struct {
		calls, held int64
		do          func(d *database) error
	}{
		"Create with an id":             {1, 0, func(d *database) error { return d.db.Create(&Customer{ID: 9, Email: field.New(grace)}).Error }},
		"Create, id from the database":  {1, 1, func(d *database) error { return d.db.Create(&Customer{Email: field.New(grace)}).Error }},
		"Save of a new record":          {1, 0, func(d *database) error { return d.db.Save(&Customer{ID: 9, Email: field.New(grace)}).Error }},
		"Save of one that was not read": {1, 0, func(d *database) error { return d.db.Save(&Customer{ID: 1, Email: field.New(grace)}).Error }},
		"Save of one that is closed":    {1, 0, func(d *database) error { c := closed(d); c.Email.Set(grace); return d.db.Save(c).Error }},
		"Updates of one that is closed": {1, 0, func(d *database) error { c := closed(d); c.Email.Set(grace); return d.db.Updates(c).Error }},
		"Updates(struct)":               {1, 0, func(d *database) error { return d.db.Model(closed(d)).Updates(Customer{Email: field.New(grace)}).Error }},
		"Update":                        {1, 0, func(d *database) error { return d.db.Model(closed(d)).Update("Email", grace).Error }},
		"Update of another column":      {0, 0, func(d *database) error { return d.db.Model(closed(d)).Update("Name", "x").Error }},
		"Find":                          {1, 0, func(d *database) error { return d.db.Find(&[]Customer{}).Error }},
		"upsert":                        {1, 1, func(d *database) error { return d.db.Save(&[]Customer{{ID: 1, Email: field.New(grace)}}).Error }},
	} {
		t.Run(name, func(t *testing.T) {
			d := setup(t)
			d.ada()
			var calls, held atomic.Int64
			d.kms.Set(kmstest.Before(func(context.Context) error {
				calls.Add(1)
				held.Add(int64(d.raw.Stats().InUse))
				return nil
			}))
			d.must(c.do(d))
			if calls.Load() != c.calls || held.Load() != c.held {
				t.Errorf("%d calls, %d of them while a connection was held, want %d and %d", calls.Load(), held.Load(), c.calls, c.held)
			}
		})
	}
}

type Stamped struct {
	ID     int64            `db:"id"`
	Tenant string           `db:"tenant" kms:"context"`
	Key    field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Note   field.Of[string] `db:"note_ciphertext" gorm:"column:note_ciphertext;type:text"`
	Hook   func(*Stamped)   `gorm:"-"`
}

func (s *Stamped) BeforeSave(*gorm.DB) error {
	if s.Hook != nil {
		s.Hook(s)
	}
	return nil
}

// What a hook changes after the record was sealed for the first time.
func TestHooksAfterSealingSQLite(t *testing.T) {
	t.Parallel()
	for name, hook := range map[string]func(*Stamped){
		"nothing":   nil,
		"the value": func(s *Stamped) { s.Note.Set(grace) },
		"the id":    func(s *Stamped) { s.ID = 8 },
		"context":   func(s *Stamped) { s.Tenant = "b" },
	} {
		t.Run(name, func(t *testing.T) {
			box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {
				Provider: kmstest.Memory(),
				Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
					return kmsencrypted.Context{"tenant": s.Record.(*Stamped).Tenant, "id": s.ID[0]}, nil
				},
			}}}.Box()
			if err != nil {
				t.Fatal(err)
			}
			db := openBox[Stamped](t, box, "stampeds")
			s := Stamped{ID: 7, Tenant: "a", Note: field.New(ada), Hook: hook}
			if err := db.Create(&s).Error; err != nil {
				t.Fatal(err)
			}
			var now Stamped
			if err := db.First(&now, s.ID).Error; err != nil || now.Tenant != s.Tenant || now.Note.Must() != s.Note.Must() {
				t.Errorf("stored %q of %s: %v", now.Note.Must(), now.Tenant, err)
			}
		})
	}
}
