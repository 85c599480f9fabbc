package kmsgorm_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// plainResident, Resident, switchedResident and movedResident are a table in
// releases 0 to 3 of a migration.
type plainResident struct {
	ID   int64
	Name string
	City *string
}

type switchedResident struct {
	ID      int64             `db:"id"`
	Name    string            `db:"name"`
	OldCity *string           `db:"city" gorm:"column:city"`
	Key     field.Key         `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	City    field.Of[*string] `db:"city_ciphertext" kms:"migrated=OldCity" gorm:"column:city_ciphertext;type:text"`
}

type movedResident struct {
	ID   int64             `db:"id"`
	Name string            `db:"name"`
	Key  field.Key         `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	City field.Of[*string] `db:"city_ciphertext" gorm:"column:city_ciphertext;type:text"`
}

func (plainResident) TableName() string    { return "residents" }
func (switchedResident) TableName() string { return "residents" }
func (movedResident) TableName() string    { return "residents" }

func TestOverlapSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	overlap(d, field.SQLite, d.raw)
}

func TestOverlapPostgres(t *testing.T) {
	t.Parallel()
	overlap(&database{T: t}, field.Postgres, opened(t, "pgx", dbserver.Postgres(t)))
}

func TestOverlapMariaDB(t *testing.T) {
	t.Parallel()
	overlap(&database{T: t}, field.MySQL, opened(t, "mysql", dbserver.MariaDB(t)))
}

func opened(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	raw, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return raw
}

// residentRelease reads a resident, lets others write, and saves it: with another
// city, or with another name alone.
type residentRelease func(id int64, meanwhile func(), set bool, city *string) (read *string, err error)

func residentsOf[R any](d *database, db *gorm.DB, get func(*R) *string, set func(*R, *string), rename func(*R)) residentRelease {
	return func(id int64, meanwhile func(), sets bool, city *string) (*string, error) {
		var r R
		d.must(db.First(&r, id).Error)
		read := get(&r)
		meanwhile()
		if sets {
			set(&r, city)
		} else {
			rename(&r)
		}
		return read, db.Save(&r).Error
	}
}

// Random programs of two releases side by side, in the order of deployments of
// docs/database.md: no read returns anything older than the last write that was
// acknowledged, by whichever release, also where another one wrote between reading
// and Save, which writes every plain column.
func overlap(d *database, dialect field.Dialect, raw *sql.DB) {
	key, err := local.Create(d.TempDir() + "/keys.txt")
	d.must(err)
	box, err := kmsencrypted.NewBox(key)
	d.must(err)
	open := func(plugin func() gorm.Plugin) *gorm.DB {
		dialector := sqlite.New(sqlite.Config{Conn: raw})
		if dialect != field.SQLite {
			dialector = dialectorOf(dialect, raw)
		}
		db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
		d.must(err)
		if plugin != nil {
			d.must(db.Use(plugin()))
		}
		return db
	}
	migrating, db1 := residents[Resident](d, box, open)
	_, db2 := residents[switchedResident](d, box, open)
	_, db3 := residents[movedResident](d, box, open)
	db0 := open(nil)
	_, err = raw.Exec("CREATE TABLE residents (id bigint PRIMARY KEY, name varchar(100), city varchar(100), encrypted_kms_key text, city_ciphertext text)")
	d.must(err)
	const rows, steps = 5, 40
	last := make(map[int64]*string)
	for id := range int64(rows) {
		last[id+1] = new(fmt.Sprint("city", id))
		_, err := raw.Exec(fmt.Sprintf("INSERT INTO residents (id, name, city) VALUES (%d, 'name', '%s')", id+1, *last[id+1]))
		d.must(err)
	}
	n := 0
	releases := []residentRelease{
		func(id int64, meanwhile func(), sets bool, city *string) (*string, error) {
			var r plainResident
			d.must(db0.First(&r, id).Error)
			meanwhile()
			if !sets {
				return r.City, nil
			}
			return r.City, db0.Model(&plainResident{ID: id}).Select("city").Updates(plainResident{City: city}).Error
		},
		residentsOf(d, db1, func(r *Resident) *string { return r.City.Must() }, func(r *Resident, c *string) { r.City.Set(c) }, func(r *Resident) { r.Name = fmt.Sprint("name", n) }),
		residentsOf(d, db2, func(r *switchedResident) *string { return r.City.Must() }, func(r *switchedResident, c *string) { r.City.Set(c) }, func(r *switchedResident) { r.Name = fmt.Sprint("name", n) }),
		residentsOf(d, db3, func(r *movedResident) *string { return r.City.Must() }, func(r *movedResident, c *string) { r.City.Set(c) }, func(r *movedResident) { r.Name = fmt.Sprint("name", n) }),
	}
	random, conflicts, reads := rand.New(rand.NewPCG(2, uint64(len(dialect)))), 0, 0
	step := func(phase int, id int64, meanwhile func()) {
		n++
		var city *string
		if random.IntN(4) > 0 {
			city = new(fmt.Sprint("town", n))
		}
		sets, which, want := random.IntN(3) > 0, phase+random.IntN(2), last[id]
		read, err := releases[which](id, meanwhile, sets, city)
		reads++
		if text(read) != text(want) {
			d.Fatalf("step %d: release %d reads %s, want %s", n, which, text(read), text(want))
		}
		switch {
		case errors.Is(err, kmsencrypted.ErrConflict):
			conflicts++
		case err != nil:
			d.Fatalf("step %d: release %d: %v", n, which, err)
		case sets:
			last[id] = city
		}
	}
	for phase := range 3 { // releases phase and phase+1 are there
		for range steps {
			id := random.Int64N(rows) + 1
			step(phase, id, func() {
				if random.IntN(2) == 0 {
					step(phase, id, func() {})
				}
			})
		}
		if phase == 0 { // release 0 has ended
			for id := range last {
				var r Resident
				d.must(db1.First(&r, id).Error)
				d.must(db1.Save(&r).Error)
				d.must(db1.First(&r, id).Error)
				if !migrating.Migrated(&r) {
					d.Fatalf("resident %d differs after it was saved", id)
				}
			}
		}
	}
	d.Logf("%d reads, none older than the last acknowledged write; %d conflicts", reads, conflicts)
}

func residents[R any](d *database, box *kmsencrypted.Box, open func(func() gorm.Plugin) *gorm.DB) (*field.Model[R], *gorm.DB) {
	m, err := field.NewModel[R](box, field.Config{Table: "residents"})
	d.must(err)
	return m, open(func() gorm.Plugin { return kmsgorm.New(m) })
}

func text(s *string) string {
	if s == nil {
		return "NULL"
	}
	return *s
}

// While a column is migrating its value cannot be read without the old one.
func TestMigratingReadsBothSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	box, err := kmsencrypted.NewBox(d.kms.Provider())
	d.must(err)
	_, db := residents[Resident](d, box, func(plugin func() gorm.Plugin) *gorm.DB {
		db, err := gorm.Open(sqlite.New(sqlite.Config{Conn: d.raw}), &gorm.Config{Logger: logger.Discard})
		d.must(err)
		d.must(db.Use(plugin()))
		return db
	})
	d.must(db.AutoMigrate(&Resident{}))
	d.must(db.Create(&Resident{ID: 1, City: field.New(new("Paris"))}).Error)
	var r Resident
	d.wantError("Select", db.Select("id, encrypted_kms_key, city_ciphertext").First(&r, 1).Error, kmsencrypted.ErrNotLoaded)
	d.wantError("Select", db.Select("ID", "Key", "City").First(&r, 1).Error, kmsencrypted.ErrNotLoaded)
	d.wantError("Omit", db.Omit("OldCity").First(&r, 1).Error, kmsencrypted.ErrNotLoaded)
	d.must(db.Select("id").First(&r, 1).Error)
	d.must(db.Select("id", "encrypted_kms_key", "city", "city_ciphertext").First(&r, 1).Error)
	d.must(db.Omit("City", "OldCity").First(&r, 1).Error)
}
