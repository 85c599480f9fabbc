package kmsgorm_test

import (
	"context"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/inplace"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// What random programs change in place is in the row after the next write.
func TestInPlaceSQLite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := local.Create(dir + "/keys.txt")
	check(err)
	process := func() (*gorm.DB, *field.Model[inplace.Doc]) {
		p, err := local.Open(dir + "/keys.txt")
		check(err)
		box, err := kmsencrypted.NewBox(p)
		check(err)
		m, err := field.NewModel[inplace.Doc](box, field.Config{Table: "docs"})
		check(err)
		db, err := gorm.Open(sqlite.Dialector{DriverName: "sqlite", DSN: "file:" + dir + "/test.db?_pragma=synchronous(off)"}, &gorm.Config{Logger: logger.Discard})
		check(err)
		check(db.Use(kmsgorm.New(m)))
		return db, m
	}
	get := func(ctx context.Context, db *gorm.DB, id int64) (d inplace.Doc, err error) {
		err = db.WithContext(ctx).First(&d, id).Error
		return d, err
	}
	db, m := process()
	check(db.Exec(inplace.Schema).Error)
	store := inplace.Store{
		Insert: func(ctx context.Context, d *inplace.Doc) error { return db.WithContext(ctx).Create(d).Error },
		Update: func(ctx context.Context, d *inplace.Doc) error { return db.WithContext(ctx).Save(d).Error },
		Rekey: func(ctx context.Context, d *inplace.Doc) error {
			if err := m.Rekey(ctx, d); err != nil {
				return err
			}
			return db.WithContext(ctx).Save(d).Error
		},
		Read: func(ctx context.Context, id int64) (inplace.Doc, error) { return get(ctx, db, id) },
		Fresh: func(ctx context.Context, id int64) (inplace.Doc, error) {
			fresh, _ := process()
			pool, err := fresh.DB()
			check(err)
			defer pool.Close()
			return get(ctx, fresh, id)
		},
	}
	for seed := range uint64(200) {
		inplace.Run(t, seed, store)
	}
}
