package kmsgorm_test

import (
	"errors"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

type Document struct {
	ID     int64            `db:"id"`
	Tenant string           `db:"tenant" kms:"context"`
	Key    field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Body   field.Of[string] `db:"body_ciphertext" gorm:"column:body_ciphertext;type:text"`
}

// A record moves to another tenant by Save: under the same key and to another one.
func TestMoveSQLite(t *testing.T) {
	for _, keyEach := range []bool{false, true} {
		d := setup(t)
		version := kmsencrypted.Version{Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"tenant": s.Record.(*Document).Tenant}, nil
		}}
		keys := make(map[string]kmsencrypted.Provider)
		for _, tenant := range []string{"a", "b"} {
			p, err := local.Create(t.TempDir() + "/" + tenant)
			d.must(err)
			keys[tenant] = p
		}
		if version.Provider = keys["a"]; keyEach {
			version.Provider = nil
			version.ProviderFor = func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
				return keys[s.Record.(*Document).Tenant], nil
			}
		}
		box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: version}}.Box()
		d.must(err)
		documents, err := field.NewModel[Document](box, field.Config{Table: "documents"})
		d.must(err)
		_, err = d.raw.Exec("CREATE TABLE documents (id INTEGER PRIMARY KEY, tenant text, encrypted_kms_key text, body_ciphertext text)")
		d.must(err)
		db, err := gorm.Open(sqlite.New(sqlite.Config{Conn: d.raw}), &gorm.Config{})
		d.must(err)
		d.must(db.Use(kmsgorm.New(documents)))

		c := Document{Tenant: "a", Body: field.New(ada)}
		d.must(db.Create(&c).Error)
		var stale Document
		d.must(db.First(&stale, c.ID).Error)
		for _, tenant := range []string{"b", "a", "b"} {
			c.Tenant = tenant
			// Rolled back, and again.
			_ = db.Transaction(func(tx *gorm.DB) error { d.must(tx.Save(&c).Error); return errors.New("rolled back") })
			d.must(db.Save(&c).Error)
			var got Document
			d.must(db.First(&got, c.ID).Error)
			if got.Tenant != tenant || got.Body.Must() != ada {
				t.Errorf("moved to %s: the row is of tenant %s", tenant, got.Tenant)
			}
		}
		stale.Body.Set(grace)
		d.wantError("Save beside a move", db.Save(&stale).Error, kmsencrypted.ErrConflict)
	}
}
