package kmsgorm_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// member has two columns that are unique beside its primary key.
type member struct {
	ID         int64            `db:"id"`
	Name       string           `db:"name"`
	City       string           `db:"city"`
	Key        field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Email      field.Of[string] `db:"email_ciphertext" gorm:"column:email_ciphertext;type:text"`
	Phone      field.Of[string] `db:"phone_ciphertext" gorm:"column:phone_ciphertext;type:text"`
	EmailIndex field.Index      `db:"email_bidx" kms:"of=Email,algorithm=pbkdf2_sha256" gorm:"column:email_bidx;type:text"`
}

func TestUpsertOfNamedSQLite(t *testing.T) {
	t.Parallel()
	testUpsertOfNamed(t, sqlite.New(sqlite.Config{Conn: kmstest.Canary(t, "sqlite", t.TempDir()+"/a.db", "secret-")}))
}

func TestUpsertOfNamedPostgres(t *testing.T) {
	t.Parallel()
	testUpsertOfNamed(t, dialectorOf(field.Postgres, kmstest.Canary(t, "pgx", dbserver.Postgres(t), "secret-")))
}

func TestUpsertOfNamedMariaDB(t *testing.T) {
	t.Parallel()
	testUpsertOfNamed(t, dialectorOf(field.MySQL, kmstest.Canary(t, "mysql", dbserver.MariaDB(t), "secret-")))
}

func TestUpsertOfNamedMySQLish(t *testing.T) {
	t.Parallel()
	testUpsertOfNamed(t, dialectorOf(field.MySQL, kmstest.Canary(t, mysqlish.Driver(), dbserver.MariaDB(t)+"&auto_increment_increment=7", "secret-")))
}

func TestUpsertOfNamedMySQL(t *testing.T) {
	t.Parallel()
	testUpsertOfNamed(t, dialectorOf(field.MySQL, kmstest.Canary(t, "mysql", dbserver.MySQL(t), "secret-")))
}

func openMembers(t *testing.T, dialector gorm.Dialector) *database {
	d := &database{T: t}
	key, err := blindindex.NewMasterKey(make([]byte, blindindex.KeySize))
	d.must(err)
	model, err := field.NewModel[member](kmstest.Box(t), field.Config{Table: "members", IndexKey: key})
	d.must(err)
	d.db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(d.db.Use(kmsgorm.New(model)))
	id := map[string]string{"postgres": "id bigserial PRIMARY KEY", "mysql": autoID, "sqlite": "id integer PRIMARY KEY"}[dialector.Name()]
	d.must(d.db.Exec("CREATE TABLE members (" + id + ", name varchar(20) UNIQUE, city varchar(20), encrypted_kms_key text, email_ciphertext text, phone_ciphertext text, email_bidx varchar(60) UNIQUE)").Error)
	return d
}

// testUpsertOfNamed makes random upserts that name the columns to overwrite, of one
// and of many records, which are found by their ids or by a blind index, and compares
// every row with what was acknowledged.
func testUpsertOfNamed(t *testing.T, dialector gorm.Dialector) {
	d := openMembers(t, dialector)
	random := rand.New(rand.NewPCG(7, 14))
	text := func(prefix string) string { return fmt.Sprintf("%s%d", prefix, random.Uint32()) }
	want := make(map[int64]*[4]string) // name, city, email, phone
	var made []member
	for id := range int64(6) {
		made = append(made, member{ID: id + 1, Name: text("n"), City: text("c"), Email: field.New(text("secret-")), Phone: field.New(text("secret-"))})
	}
	d.must(d.db.Create(&made).Error)
	for i := range made {
		m := &made[i]
		want[m.ID] = &[4]string{m.Name, m.City, m.Email.Must(), m.Phone.Must()}
	}
	const name, city, email, phone = 0, 1, 2, 3
	columns := []string{name: "name", city: "city", email: "email_ciphertext", phone: "phone_ciphertext"}
	overwrote, refused := 0, 0
	for range 60 {
		byIndex := random.IntN(3) == 0
		var set []int
		for column := range columns {
			if random.IntN(2) == 0 && !(byIndex && column == email) {
				set = append(set, column)
			}
		}
		var named []string
		for _, column := range set {
			named = append(named, columns[column])
		}
		if len(named) == 0 {
			continue
		}
		target, list := "id", make([]*member, 1+random.IntN(3))
		if byIndex {
			target = "email_bidx"
		}
		taken := random.Perm(7)
		next := make(map[int64]*[4]string)
		steals := false
		for i := range list {
			id := int64(taken[i] + 1)
			values := &[4]string{text("n"), text("c"), text("secret-"), text("secret-")}
			m := &member{ID: id}
			if stored := want[id]; stored != nil && byIndex {
				values[email], m.ID = stored[email], 0
			}
			if other := want[int64(taken[6]+1)]; other != nil && random.IntN(6) == 0 {
				values[name], steals = other[name], true // which is unique
			}
			m.Name, m.City = values[name], values[city]
			m.Email.Set(values[email])
			m.Phone.Set(values[phone])
			list[i] = m
			if want[id] == nil {
				next[id] = values
				continue
			}
			now := *want[id]
			for _, column := range set {
				now[column] = values[column]
			}
			next[id] = &now
		}
		var one any = &list
		if len(list) == 1 {
			one = list[0]
		}
		r := d.db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: target}}, DoUpdates: clause.AssignmentColumns(named)}).Create(one)
		switch {
		case r.Error == nil:
			overwrote++
			maps.Copy(want, next)
		case steals:
			refused++
		default:
			t.Fatalf("upsert of %v by %s: %v", named, target, r.Error)
		}
		var all []member
		d.must(d.db.Order("id").Find(&all).Error)
		if len(all) != len(want) {
			t.Fatalf("upsert of %v by %s: %d rows, want %d", named, target, len(all), len(want))
		}
		for i := range all {
			m := &all[i]
			if got := [4]string{m.Name, m.City, m.Email.Must(), m.Phone.Must()}; got != *want[m.ID] {
				t.Fatalf("upsert of %v by %s: row %d has %v, want %v", named, target, m.ID, got, *want[m.ID])
			}
		}
	}
	if overwrote < 20 || refused < 3 {
		t.Errorf("%d upserts, %d refused", overwrote, refused)
	}
	t.Logf("counted: %d upserts of named columns on %s, and %d refused", overwrote, dialector.Name(), refused)
}

// MySQL takes a row with any of the unique values for the one to overwrite. It keeps
// its data key where it has another primary key.
func TestUpsertOfAnotherRowMariaDB(t *testing.T) {
	t.Parallel()
	testUpsertOfAnotherRow(t, dialectorOf(field.MySQL, kmstest.Canary(t, "mysql", dbserver.MariaDB(t), ada, grace)))
}

func TestUpsertOfAnotherRowMySQL(t *testing.T) {
	t.Parallel()
	testUpsertOfAnotherRow(t, dialectorOf(field.MySQL, kmstest.Canary(t, "mysql", dbserver.MySQL(t), ada, grace)))
}

func testUpsertOfAnotherRow(t *testing.T, dialector gorm.Dialector) {
	d := openMembers(t, dialector)
	first := member{Name: "Ada", Email: field.New(ada)}
	d.must(d.db.Create(&first).Error)
	all := clause.OnConflict{UpdateAll: true}
	for name, write := range map[string]func(m *member) error{
		"upsert":  func(m *member) error { return d.db.Clauses(all).Create(m).Error },
		"of list": func(m *member) error { return d.db.Clauses(all).Create([]*member{{Name: "new"}, m}).Error },
		"Save":    func(m *member) error { return d.db.Save(m).Error },
		"in a transaction": func(m *member) error {
			return d.db.Transaction(func(tx *gorm.DB) error { return tx.Clauses(all).Create(m).Error })
		},
	} {
		for _, id := range []int64{0, 1234} {
			if id == 0 && name == "Save" { // a plain INSERT
				continue
			}
			d.wantError(name, write(&member{ID: id, Name: "Ada", Email: field.New(grace)}), errors.ErrUnsupported)
			var rows []member
			d.must(d.db.Find(&rows).Error)
			if len(rows) != 1 || rows[0].Email.Must() != ada {
				t.Fatalf("%s with the id %d: %d rows", name, id, len(rows))
			}
		}
	}
}

// Two records of a list that are one row would overwrite each other.
func TestSaveOfOneRowTwiceSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	var one, two Customer
	d.must(d.db.First(&one, c.ID).Error)
	d.must(d.db.First(&two, c.ID).Error)
	one.Email.Set(grace)
	two.Name = "Augusta"
	d.wantError("Save", d.db.Save([]*Customer{&one, &two}).Error, kmsencrypted.ErrConfig)
	if got := d.read(c.ID); got.Email.Must() != ada || got.Name != "Ada" {
		t.Errorf("the row has %q %q", got.Name, got.Email.Must())
	}
}

// An upsert that meets a row by a column of the program's does not take its data key.
func TestUpsertByAnotherColumnSQLite(t *testing.T) {
	t.Parallel()
	d := openMembers(t, sqlite.New(sqlite.Config{Conn: kmstest.Canary(t, "sqlite", t.TempDir()+"/a.db", ada, grace)}))
	byName := clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, DoUpdates: clause.AssignmentColumns([]string{"city"})}
	d.must(d.db.Clauses(byName).Create(&member{Name: "Ada", City: "London", Email: field.New(ada)}).Error)
	d.wantError("upsert", d.db.Clauses(byName).Create(&member{Name: "Ada", City: "Paris", Email: field.New(grace)}).Error, errors.ErrUnsupported)
	var all []member
	d.must(d.db.Find(&all).Error)
	if len(all) != 1 || all[0].City != "London" || all[0].Email.Must() != ada {
		t.Errorf("%d rows, the first in %q", len(all), all[0].City)
	}
}
