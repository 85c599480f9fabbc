package kmsgorm_test

import (
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
)

// replacing is a table in release R of a migration.
func replacing[R any](t *testing.T) (*database, *gorm.DB) {
	d := setup(t)
	box, err := kmsencrypted.NewBox(d.kms.Provider())
	d.must(err)
	m, err := field.NewModel[R](box, field.Config{Table: "residents"})
	d.must(err)
	db, err := gorm.Open(sqlite.New(sqlite.Config{Conn: d.raw}), &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(db.Use(kmsgorm.New(m)))
	d.must(db.AutoMigrate(new(R)))
	return d, db
}

// wantBoth compares the plain column and the encrypted one with a city.
func wantBoth(d *database, db *gorm.DB, what string, id int64, want string) {
	d.Helper()
	var plain *string
	d.must(d.raw.QueryRow("SELECT city FROM residents WHERE id = ?", id).Scan(&plain))
	var r movedResident
	box, err := kmsencrypted.NewBox(d.kms.Provider())
	d.must(err)
	m, err := field.NewModel[movedResident](box, field.Config{Table: "residents"})
	d.must(err)
	d.must(d.raw.QueryRow("SELECT id, encrypted_kms_key, city_ciphertext FROM residents WHERE id = ?", id).Scan(&r.ID, &r.Key, &r.City))
	d.must(m.Open(d.Context(), &r))
	if got := text(plain) + " " + text(r.City.Must()); got != want+" "+want {
		d.Errorf("%s: the columns hold %s, want %s twice", what, got, want)
	}
}

// However a program of GORM's writes the plain column, the encrypted one is written
// with it, in both releases.
func TestReplacedWritesSQLite(t *testing.T) {
	t.Parallel()
	t.Run("migrating", func(t *testing.T) {
		t.Parallel()
		d, db := replacing[Resident](t)
		replacedWrites(d, db, func(r Resident) *Resident { return &r })
	})
	t.Run("migrated", func(t *testing.T) {
		t.Parallel()
		d, db := replacing[switchedResident](t)
		replacedWrites(d, db, func(r Resident) *switchedResident {
			return &switchedResident{ID: r.ID, Name: r.Name, OldCity: r.OldCity, City: r.City}
		})
	})
}

func replacedWrites[R any](d *database, db *gorm.DB, of func(Resident) *R) {
	row := of(Resident{ID: 1, OldCity: new("Paris")})
	d.must(db.Create(row).Error)
	wantBoth(d, db, "Create with the old field", 1, "Paris")
	read := func() *R {
		row := new(R)
		d.must(db.First(row, 1).Error)
		return row
	}
	row = read()
	d.must(db.Model(row).Update("city", "Rome").Error)
	wantBoth(d, db, "Update", 1, "Rome")
	d.must(db.Model(read()).Update("city", "Oslo").Error)
	d.must(db.Save(row).Error) // it changed nothing since
	wantBoth(d, db, "Save after another's Update", 1, "Oslo")
	d.must(db.Model(read()).Updates(map[string]any{"OldCity": nil, "name": "n"}).Error)
	wantBoth(d, db, "Updates with NULL", 1, "NULL")
	d.must(db.Model(read()).Updates(of(Resident{OldCity: new("Bern")})).Error)
	wantBoth(d, db, "Updates with a struct", 1, "Bern")
	d.must(db.Model(of(Resident{ID: 1})).Update("city", "Wien").Error)
	wantBoth(d, db, "Update of a record that was not read", 1, "Wien")

	all := db.Session(&gorm.Session{AllowGlobalUpdate: true})
	d.wantError("Update of many", all.Model(new(R)).Update("city", "x").Error, kmsencrypted.ErrUnsealed)
	d.wantError("an expression", db.Model(read()).Update("city", gorm.Expr("upper(city)")).Error, kmsencrypted.ErrUnsealed)
	d.wantError("Select", db.Model(read()).Select("city").Updates(map[string]any{"city": "x"}).Error, kmsencrypted.ErrUnsealed)
	d.wantError("Table", db.Table("residents").Where("id = 1").Updates(map[string]any{"city": "x"}).Error, kmsencrypted.ErrUnsealed)
	d.wantError("another struct", db.Create(&plainResident{ID: 9, City: new("x")}).Error, kmsencrypted.ErrUnsealed)
	d.wantError("a map", db.Model(new(R)).Create(map[string]any{"id": 9, "city": "x"}).Error, kmsencrypted.ErrUnsealed)
	d.wantError("DoUpdates", db.Clauses(clause.OnConflict{DoUpdates: clause.AssignmentColumns([]string{"city"})}).Create(of(Resident{ID: 1, OldCity: new("x")})).Error, kmsencrypted.ErrUnsealed)
	wantBoth(d, db, "after what was refused", 1, "Wien")

	overwrite := func(r Resident) error { return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(of(r)).Error }
	d.must(overwrite(Resident{ID: 1, Name: "other"}))
	wantBoth(d, db, "an upsert that sets neither", 1, "Wien")
	d.must(overwrite(Resident{ID: 1, OldCity: new("Graz")}))
	wantBoth(d, db, "an upsert of the old field", 1, "Graz")
	d.must(overwrite(Resident{ID: 1, City: field.New(new("Linz"))}))
	wantBoth(d, db, "an upsert of the new field", 1, "Linz")
}
