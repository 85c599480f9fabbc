package kmsgorm_test

import (
	"errors"
	"fmt"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// person is of a table that has plain rows too.
type person struct {
	ID    int64            `db:"id"`
	Name  string           `db:"name"`
	Key   field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Email field.Of[string] `db:"email_ciphertext" gorm:"column:email_ciphertext;type:text"`
}

func TestIDsBetweenMariaDB(t *testing.T) {
	t.Parallel()
	testIDsBetween(t, "mysql", dbserver.MariaDB(t))
}

func TestIDsBetweenMySQL(t *testing.T) {
	t.Parallel()
	testIDsBetween(t, "mysql", dbserver.MySQL(t))
}

func TestIDsBetweenMySQLish(t *testing.T) {
	t.Parallel()
	testIDsBetween(t, mysqlish.Driver(), dbserver.MariaDB(t))
}

// testIDsBetween creates records on one node of a cluster while the other one
// takes the numbers between: no value may come to a row that is not its own.
func testIDsBetween(t *testing.T, driver, dsn string) {
	for _, create := range []string{"values", "pointers", "batches", "association"} {
		for _, increment := range []int{1, 2, 7} {
			t.Run(fmt.Sprint(create, " by ", increment), func(t *testing.T) {
				testIDsBetweenBy(t, driver, dsn, increment, create)
			})
		}
	}
}

func testIDsBetweenBy(t *testing.T, driver, dsn string, increment int, create string) {
	d := &database{T: t}
	raw := kmstest.Canary(t, driver, fmt.Sprintf("%s&auto_increment_increment=%d", dsn, increment), ada, grace)
	people, err := field.NewModel[person](kmstest.Box(t), field.Config{Table: "people"})
	d.must(err)
	db, err := gorm.Open(dialectorOf(field.MySQL, raw), &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(db.Use(kmsgorm.New(people)))
	d.must(db.Exec("DROP TABLE IF EXISTS people").Error)
	d.must(db.AutoMigrate(&person{}))
	between := 0
	d.must(db.Callback().Create().After("gorm:create").Before("kmsencrypted:created").Register("other_node", func(tx *gorm.DB) {
		for id := range 30 {
			if id%increment == 1%increment {
				continue // ours
			}
			result, err := raw.Exec("INSERT IGNORE INTO people (id, name) VALUES (?, 'other node')", id)
			if err == nil {
				n, _ := result.RowsAffected()
				between += int(n)
			}
		}
	}))
	list := []person{{Name: "Ada", Email: field.New(ada)}, {Name: "Grace", Email: field.New(grace)}, {Name: "Nobody"}}
	switch create {
	case "values":
		err = db.Create(&list).Error
	case "pointers":
		err = db.Create(&[]*person{&list[0], &list[1], &list[2]}).Error
	case "batches":
		err = db.CreateInBatches(&list, 2).Error
	case "association":
		type club struct {
			ID      int64
			Members []person `gorm:"-:migration;many2many:members"`
		}
		d.must(db.Exec("CREATE TABLE IF NOT EXISTS clubs (id bigint AUTO_INCREMENT PRIMARY KEY)").Error)
		d.must(db.Exec("CREATE TABLE IF NOT EXISTS members (club_id bigint, person_id bigint, PRIMARY KEY (club_id, person_id))").Error)
		c := club{Members: list}
		err = db.Create(&c).Error
		list = c.Members
	}
	if err != nil && !errors.Is(err, kmsencrypted.ErrConflict) {
		t.Fatal(err)
	}
	if increment > 1 && between == 0 {
		t.Error("the other node had no turn")
	}
	var rows []person
	d.must(db.Order("id").Find(&rows).Error)
	want, found := map[string]string{"Ada": ada, "Grace": grace}, 0
	for _, row := range rows {
		switch {
		case row.Name == "other node" && !row.Email.IsNull():
			t.Errorf("id %d: a row of the other node has a value of ours", row.ID)
		case want[row.Name] != "" && row.Email.Must() == want[row.Name]:
			found++
		case want[row.Name] != "":
			t.Errorf("id %d: %s has another value", row.ID, row.Name)
		}
	}
	if err == nil && found != len(want) {
		t.Errorf("%d records came back, want %d: %v", found, len(want), rows)
	}
	for _, p := range list {
		var now person
		if err == nil && (db.First(&now, p.ID).Error != nil || now.Name != p.Name) {
			t.Errorf("%s has id %d, which is the row of %q", p.Name, p.ID, now.Name)
		}
	}
}
