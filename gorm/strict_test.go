package kmsgorm_test

import (
	"errors"
	"fmt"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
)

// lenient is a session that cuts what is too long and replaces characters that a
// column does not have, unless a statement asks for more.
const lenient = "&sql_mode=''"

func TestServerMariaDBLenient(t *testing.T) {
	t.Parallel()
	testServer(t, field.MySQL, "mysql", dbserver.MariaDB(t)+lenient, autoID)
}

func TestServerMySQLLenient(t *testing.T) {
	t.Parallel()
	testServer(t, field.MySQL, "mysql", dbserver.MySQL(t)+lenient, autoID)
}

func TestServerMySQLishLenient(t *testing.T) {
	t.Parallel()
	testServer(t, field.MySQL, mysqlish.Driver(), dbserver.MariaDB(t)+lenient, autoID)
}

func TestCutMariaDB(t *testing.T)  { testCut(t, "mysql", dbserver.MariaDB(t)) }
func TestCutMySQL(t *testing.T)    { testCut(t, "mysql", dbserver.MySQL(t)) }
func TestCutMySQLish(t *testing.T) { testCut(t, mysqlish.Driver(), dbserver.MariaDB(t)) }

// Short is a record whose columns are too short for some values.
type Short struct {
	ID   int64            `db:"id"`
	Name string           `db:"name"`
	Key  field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Note field.Of[string] `db:"note_ciphertext" gorm:"column:note_ciphertext;type:text"`
}

// testCut writes what does not fit with every verb: it is an error, and the rows
// are as they were.
func testCut(t *testing.T, driver, dsn string) {
	t.Parallel()
	d := &database{T: t, raw: kmstest.Canary(t, driver, dsn+lenient, ada)}
	one := kmstest.Memory()
	versions := map[int]kmsencrypted.Version{1: {Provider: one}, 2: {Provider: multi.New([]kmsencrypted.Provider{one, kmstest.Memory()}, multi.Options{Tags: []string{"one", "two"}})}}
	open := func(current int) (*gorm.DB, *field.Model[Short]) {
		box, err := kmsencrypted.Config{Current: current, Versions: versions}.Box()
		d.must(err)
		m, err := field.NewModel[Short](box, field.Config{Table: "shorts"})
		d.must(err)
		db, err := gorm.Open(dialectorOf(field.MySQL, d.raw), &gorm.Config{Logger: logger.Discard})
		d.must(err)
		d.must(db.Use(kmsgorm.New(m)))
		return db, m
	}
	db, m := open(1)
	sample := Short{ID: 1, Note: field.New("fits")}
	d.must(m.Seal(t.Context(), &sample))
	key, err := sample.Key.Value()
	d.must(err)
	note, err := sample.Note.Value()
	d.must(err)
	_, err = d.raw.Exec(fmt.Sprintf("CREATE TABLE shorts (%s, name varchar(10) CHARACTER SET latin1, encrypted_kms_key varchar(%d), note_ciphertext varchar(%d))",
		autoID, len(key.(string)), len(note.(string))))
	d.must(err)
	d.must(db.Create(&Short{ID: 1, Name: "name", Note: field.New("fits")}).Error)

	for what, bad := range map[string]func(*Short){
		"a long text":           func(r *Short) { r.Name = "longer than ten" },
		"another character set": func(r *Short) { r.Name = "日本" },
		"a long ciphertext":     func(r *Short) { r.Note.Set(ada) },
	} {
		made := func(id int64) *Short {
			r := &Short{ID: id, Name: "name", Note: field.New("fits")}
			bad(r)
			return r
		}
		loaded := func() *Short {
			r := new(Short)
			d.must(db.First(r, 1).Error)
			return r
		}
		changed := loaded()
		bad(changed)
		anyColumn := clause.OnConflict{UpdateAll: true}
		for verb, run := range map[string]func() error{
			"Create":          func() error { return db.Create(made(2)).Error },
			"Create by id":    func() error { return db.Create(made(0)).Error },
			"Create of two":   func() error { return db.Create([]*Short{{ID: 3, Name: "name"}, made(4)}).Error },
			"CreateInBatches": func() error { return db.CreateInBatches([]*Short{made(5), made(6)}, 1).Error },
			"Save of a new":   func() error { return db.Save(made(7)).Error },
			"Save":            func() error { r := *changed; return db.Save(&r).Error },
			"upsert":          func() error { return db.Clauses(anyColumn).Create(made(1)).Error },
			"upsert of a new": func() error { return db.Clauses(anyColumn).Create(made(8)).Error },
			"Updates":         func() error { r := made(0); return db.Model(loaded()).Updates(r).Error },
			"FirstOrCreate":   func() error { r := made(9); return db.Where("id = 9").FirstOrCreate(r).Error },
			"in a transaction": func() error {
				return db.Transaction(func(tx *gorm.DB) error { r := *changed; return tx.Save(&r).Error })
			},
		} {
			d.refused(what+": "+verb, run())
		}
		d.unharmed(db, what)
	}
	d.refused("Update of a plain column", db.Model(&Short{}).Where("id = 1").Update("name", "longer than ten").Error)

	db2, m2 := open(2)
	rewrapped, rekeyed := new(Short), new(Short)
	d.must(db2.First(rewrapped, 1).Error)
	d.must(db2.First(rekeyed, 1).Error)
	d.must(m2.Rewrap(t.Context(), rewrapped))
	d.must(m2.Rekey(t.Context(), rekeyed))
	d.refused("a long key: Create", db2.Create(&Short{Name: "name", Note: field.New("fits")}).Error)
	d.refused("a long key: Rewrap", db2.Save(rewrapped).Error)
	d.refused("a long key: Rekey", db2.Save(rekeyed).Error)
	d.unharmed(db2, "a long key")

	// IGNORE makes warnings of errors, whatever the mode.
	for verb, err := range map[string]error{
		"INSERT": db.Clauses(clause.Insert{Modifier: "IGNORE"}).Create(&Short{Name: "name"}).Error,
		"UPDATE": db.Clauses(clause.Update{Modifier: "LOW_PRIORITY ignore"}).Model(&Short{}).Where("id = 1").Update("name", "x").Error,
	} {
		d.wantError(verb+" IGNORE", err, errors.ErrUnsupported)
	}
	d.unharmed(db, "IGNORE")
}

// refused checks that a statement failed for what the database was given.
func (d *database) refused(what string, err error) {
	d.Helper()
	if err == nil || errors.Is(err, kmsencrypted.ErrConflict) {
		d.Errorf("%s: error %v, want the database's", what, err)
	}
}

// unharmed checks that there is one row, and that it is as it was.
func (d *database) unharmed(db *gorm.DB, what string) {
	d.Helper()
	var rows []Short
	d.must(db.Find(&rows).Error)
	if len(rows) != 1 || rows[0].Name != "name" || rows[0].Note.Must() != "fits" {
		d.Errorf("%s: %d rows are left, the first is %q", what, len(rows), rows[0].Name)
	}
}
