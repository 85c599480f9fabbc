package kmsgorm_test

import (
	"reflect"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func TestDoNothingSQLite(t *testing.T) {
	t.Parallel()
	testDoNothing(t, sqlite.New(sqlite.Config{Conn: kmstest.Canary(t, "sqlite", t.TempDir()+"/a.db", ada, grace)}))
}

func TestDoNothingPostgres(t *testing.T) {
	t.Parallel()
	testDoNothing(t, dialectorOf(field.Postgres, kmstest.Canary(t, "pgx", dbserver.Postgres(t), ada, grace)))
}

func TestDoNothingMariaDB(t *testing.T) {
	t.Parallel()
	dsn := dbserver.MariaDB(t)
	testDoNothing(t, dialectorOf(field.MySQL, kmstest.Canary(t, "mysql", dsn, ada, grace)))
	testDoNothing(t, dialectorOf(field.MySQL, kmstest.Canary(t, "mysql", dsn+"&clientFoundRows=true", ada, grace)))
}

func TestDoNothingMySQL(t *testing.T) {
	t.Parallel()
	dsn := dbserver.MySQL(t)
	testDoNothing(t, dialectorOf(field.MySQL, kmstest.Canary(t, "mysql", dsn, ada, grace)))
	testDoNothing(t, dialectorOf(field.MySQL, kmstest.Canary(t, "mysql", dsn+"&clientFoundRows=true", ada, grace)))
}

// testDoNothing inserts records of which some are there, by a unique blind index,
// in a transaction that goes on.
func testDoNothing(t *testing.T, dialector gorm.Dialector) {
	d := &database{T: t}
	var err error
	d.db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	d.must(err)
	key, err := blindindex.NewMasterKey(make([]byte, blindindex.KeySize))
	d.must(err)
	model, err := field.NewModel[Indexed](kmstest.Box(t), field.Config{Table: "indexeds", IndexKey: key})
	d.must(err)
	d.must(d.db.Use(kmsgorm.New(model)))
	id := map[string]string{"postgres": "bigserial PRIMARY KEY", "mysql": "bigint AUTO_INCREMENT PRIMARY KEY", "sqlite": "integer PRIMARY KEY"}[dialector.Name()]
	d.must(d.db.Exec("DROP TABLE IF EXISTS indexeds").Error)
	d.must(d.db.Exec("CREATE TABLE indexeds (id " + id + ", encrypted_kms_key text, body_ciphertext text, body_bidx varchar(100) UNIQUE)").Error)
	// A row that somebody wrote without a key: no secret may land in it.
	x := Indexed{Body: field.New(ada)}
	d.must(d.db.Create(&x).Error)
	d.must(d.db.Exec("UPDATE indexeds SET encrypted_kms_key = NULL, body_ciphertext = NULL").Error)

	nothing := d.db.Clauses(clause.OnConflict{DoNothing: true})
	d.must(d.db.Transaction(func(tx *gorm.DB) error {
		one := Indexed{Body: field.New(ada)}
		if r := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&one); r.Error != nil || r.RowsAffected != 0 || one.ID != 0 {
			t.Errorf("one: error %v, %d rows, id %d", r.Error, r.RowsAffected, one.ID)
		}
		var n int64
		return tx.Model(&Indexed{}).Count(&n).Error // the transaction is alive
	}))
	list := []Indexed{{Body: field.New(ada)}, {Body: field.New(grace)}, {Body: field.New(ada)}}
	if r := nothing.Create(&list); r.Error != nil || r.RowsAffected != 1 || list[0].ID != 0 || list[1].ID == 0 || list[2].ID != 0 {
		t.Errorf("list: error %v, %d rows, ids %d %d %d", r.Error, r.RowsAffected, list[0].ID, list[1].ID, list[2].ID)
	}
	known := Indexed{ID: list[1].ID, Body: field.New("other")}
	if r := d.db.Clauses(clause.OnConflict{DoNothing: true}).Create(&known); r.Error != nil || r.RowsAffected > 1 {
		t.Errorf("known id: error %v, %d rows", r.Error, r.RowsAffected)
	}
	var all []Indexed
	d.must(d.db.Order("id").Find(&all).Error)
	if len(all) != 2 || !all[0].Body.IsNull() || all[1].Body.Must() != grace {
		t.Errorf("%d rows, want the one without a value and one that is new", len(all))
	}

	// An upsert by the index finds the row and keeps its data key.
	key0, _ := all[1].Key.Value()
	byIndex := []Indexed{{Body: field.New("new one")}, {Body: field.New(grace)}}
	d.must(d.db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "body_bidx"}}, UpdateAll: true}).Create(&byIndex).Error)
	d.must(d.db.Order("id").Find(&all).Error)
	if len(all) != 3 || byIndex[1].ID != all[1].ID || all[1].Body.Must() != grace || all[2].Body.Must() != "new one" || byIndex[0].ID != all[2].ID {
		t.Fatalf("upsert by an index: %d rows", len(all))
	}
	if key1, _ := all[1].Key.Value(); !reflect.DeepEqual(key1, key0) {
		t.Error("an upsert by an index gives the row another data key")
	}
	byIndex[1].Body.Set("changed")
	d.must(d.db.Save(&byIndex[1]).Error)
}
