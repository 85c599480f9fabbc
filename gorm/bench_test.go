package kmsgorm_test

import (
	"path/filepath"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// The limit is GORM without the plugin and Open by hand.
func BenchmarkFind100(b *testing.B) {
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	key, err := local.Create(filepath.Join(b.TempDir(), "keys.txt"))
	must(err)
	box, err := kmsencrypted.NewBox(key)
	must(err)
	orders, err := field.NewModel[Order](box, field.Config{Table: "orders"})
	must(err)
	path := filepath.Join(b.TempDir(), "bench.sqlite3")
	open := func() *gorm.DB {
		db, err := gorm.Open(sqlite.New(sqlite.Config{DriverName: "sqlite", DSN: path}), &gorm.Config{Logger: logger.Discard})
		must(err)
		sqlDB, err := db.DB()
		must(err)
		b.Cleanup(func() { sqlDB.Close() })
		return db
	}
	plain, with := open(), open()
	must(with.Use(kmsgorm.New(orders)))
	must(plain.Exec("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, encrypted_kms_key TEXT, note_ciphertext TEXT)").Error)
	list := make([]Order, 100)
	for i := range list {
		list[i].Note = field.New("a note")
	}
	must(with.Create(&list).Error)
	b.Run("limit", func(b *testing.B) {
		for b.Loop() {
			var list []Order
			must(plain.Find(&list).Error)
			must(orders.Open(b.Context(), field.Pointers(list)...))
		}
	})
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			var list []Order
			must(with.Find(&list).Error)
		}
	})
}
