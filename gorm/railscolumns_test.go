package kmsgorm_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// Patient has columns of Rails' encrypts alone, of text, bytes and JSON.
type Patient struct {
	ID    int64                       `db:"id"`
	Name  string                      `db:"name"`
	Email field.Of[*string]           `db:"email" kms:"activerecord,deterministic" gorm:"column:email;type:text"`
	Note  field.Of[string]            `db:"note" kms:"activerecord" gorm:"column:note;type:text"`
	Photo field.Of[[]byte]            `db:"photo" kms:"activerecord,binary" gorm:"column:photo;type:text"`
	Prefs field.Of[map[string]string] `db:"prefs" kms:"activerecord,type=json" gorm:"column:prefs;type:text"`
}

func TestRailsColumnsSQLite(t *testing.T) {
	t.Parallel()
	testRailsColumns(t, sqlite.New(sqlite.Config{Conn: kmstest.Canary(t, "sqlite", t.TempDir()+"/a.db", ada, grace)}), "blob", "json")
}

func TestRailsColumnsPostgres(t *testing.T) {
	t.Parallel()
	for _, json := range []string{"json", "jsonb"} {
		testRailsColumns(t, dialectorOf(field.Postgres, kmstest.Canary(t, "pgx", dbserver.Postgres(t), ada, grace)), "bytea", json)
	}
}

func TestRailsColumnsMariaDB(t *testing.T) {
	t.Parallel()
	testRailsColumns(t, dialectorOf(field.MySQL, kmstest.Canary(t, "mysql", dbserver.MariaDB(t), ada, grace)), "longblob", "json")
}

func TestRailsColumnsMySQL(t *testing.T) {
	t.Parallel()
	testRailsColumns(t, dialectorOf(field.MySQL, kmstest.Canary(t, "mysql", dbserver.MySQL(t), ada, grace)), "longblob", "json")
}

// Columns of Rails' encrypts have no data key, so an upsert writes them like plain ones.
func testRailsColumns(t *testing.T, dialector gorm.Dialector, blob, json string) {
	d := &database{T: t}
	var err error
	d.db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	d.must(err)
	rails, err := activerecord.New(activerecord.Config{PrimaryKeys: activerecord.Passwords("primary"), DeterministicKey: activerecord.Password("deterministic"), Salt: "salt"})
	d.must(err)
	model, err := field.NewModel[Patient](kmstest.Box(t), field.Config{Table: "patients", ActiveRecord: rails})
	d.must(err)
	d.must(d.db.Use(kmsgorm.New(model)))
	d.must(d.db.Exec("DROP TABLE IF EXISTS patients").Error)
	d.must(d.db.Exec(fmt.Sprintf("CREATE TABLE patients (id bigint PRIMARY KEY, name text, email varchar(300) UNIQUE, note text, photo %s, prefs %s)", blob, json)).Error)

	made := func(name, email string) *Patient {
		return &Patient{ID: 1, Name: name, Email: field.New(&email), Note: field.New(email), Photo: field.New([]byte{0, 0xff}), Prefs: field.New(map[string]string{"a": name})}
	}
	want := func(what, name, email, note string) {
		t.Helper()
		var all []Patient
		d.must(d.db.Find(&all).Error)
		if len(all) != 1 {
			t.Fatalf("%s: %d rows", what, len(all))
		}
		if p := all[0]; p.Name != name || *p.Email.Must() != email || p.Note.Must() != note || !bytes.Equal(p.Photo.Must(), []byte{0, 0xff}) || p.Prefs.Must()["a"] == "" {
			t.Errorf("%s: the row is %q %q %q %v %v", what, p.Name, *p.Email.Must(), p.Note.Must(), p.Photo.Must(), p.Prefs.Must())
		}
	}
	d.must(d.db.Create(made("Ada", ada)).Error)
	want("an insert", "Ada", ada, ada)
	d.must(d.db.Clauses(clause.OnConflict{DoNothing: true}).Create(made("none", grace)).Error)
	want("DoNothing", "Ada", ada, ada)
	d.must(d.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(made("Grace", grace)).Error)
	want("UpdateAll", "Grace", grace, grace)
	id := []clause.Column{{Name: "id"}}
	d.must(d.db.Clauses(clause.OnConflict{Columns: id, DoUpdates: clause.AssignmentColumns([]string{"email", "name"})}).Create(made("Ada", ada)).Error)
	want("AssignmentColumns", "Ada", ada, grace)
	d.must(d.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&Patient{ID: 1, Name: "Nobody"}).Error)
	want("UpdateAll without the fields", "Nobody", ada, grace)
	other := made("Grace", ada)
	other.ID = 2
	err = d.db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "email"}}, UpdateAll: true}).Create(other).Error
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("an upsert by a deterministic column = %v, want ErrUnsupported", err)
	}

	var p Patient
	d.must(d.db.First(&p, 1).Error)
	p.Prefs.Set(map[string]string{"a": "again"})
	p.Photo.Set([]byte{0, 0xff})
	d.must(d.db.Save(&p).Error)
	want("Save", "Nobody", ada, grace)
	d.must(d.db.First(&p, 1).Error)
	p.Note.Set(ada)
	d.must(d.db.Model(&p).Select("note").Updates(&p).Error)
	want("Updates", "Nobody", ada, ada)
	var found []Patient
	d.must(d.db.Where("email IN ?", model.Lookup("Email", ada).Args()).Find(&found).Error)
	if len(found) != 1 {
		t.Errorf("a look-up finds %d rows", len(found))
	}
}
