package kmsgorm_test

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// spelled is a record whose id the program makes.
type spelled struct {
	ID   string           `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Card field.Of[string] `db:"card" gorm:"type:text"`
}

const lower, upper = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12"

// spelling is an id for a column, which keeps it as it is or does not.
type spelling struct {
	column, id string
	kept       bool
}

var everywhere = []spelling{{"varchar(40)", upper, true}, {"varchar(40)", "ÄÖ ü", true}}

func TestSpellingsSQLite(t *testing.T) {
	t.Parallel()
	raw := kmstest.Canary(t, "sqlite", filepath.Join(t.TempDir(), "app.sqlite3"), ada)
	testSpellings(t, sqlite.New(sqlite.Config{Conn: raw}), raw, append(everywhere,
		spelling{"integer", "007", false}, spelling{"integer", "7", true}, spelling{"text COLLATE NOCASE", upper, true}))
}

func TestSpellingsPostgres(t *testing.T) {
	t.Parallel()
	// Nothing that is kept of a table that is there no more.
	raw := kmstest.Canary(t, "pgx", dbserver.Postgres(t)+"&default_query_exec_mode=describe_exec", ada)
	testSpellings(t, dialectorOf(field.Postgres, raw), raw, append(everywhere,
		spelling{"uuid", lower, true}, spelling{"uuid", upper, false}, spelling{"char(10)", "abc", false}, spelling{"char(3)", "abc", true}))
}

func TestSpellingsMariaDB(t *testing.T) {
	t.Parallel()
	raw := kmstest.Canary(t, "mysql", dbserver.MariaDB(t), ada)
	testSpellings(t, dialectorOf(field.MySQL, raw), raw, append(everywhere,
		spelling{"uuid", lower, true}, spelling{"uuid", upper, false}, spelling{"char(10)", "abc", true}, spelling{"char(10)", "abc ", false}, spelling{"int", "007", false}))
}

func TestSpellingsMySQLish(t *testing.T) {
	t.Parallel()
	raw := kmstest.Canary(t, mysqlish.Driver(), dbserver.MariaDB(t)+"&sql_mode=''", ada)
	testSpellings(t, dialectorOf(field.MySQL, raw), raw, append(everywhere,
		spelling{"char(10)", "abc ", false}))
}

// A row whose id the database spells otherwise would never open.
func testSpellings(t *testing.T, dialector gorm.Dialector, raw *sql.DB, spellings []spelling) {
	d := &database{T: t, raw: raw}
	box, err := kmsencrypted.NewBox(kmstest.Memory())
	d.must(err)
	m, err := field.NewModel[spelled](box, field.Config{Table: "spelleds"})
	d.must(err)
	d.db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(d.db.Use(kmsgorm.New(m)))
	for _, s := range spellings {
		_, err := raw.Exec("CREATE TABLE spelleds (id " + s.column + " PRIMARY KEY, encrypted_kms_key text, card text)")
		d.must(err)
		for name, insert := range inserts {
			d.inserts(s, name, insert)
		}
		d.updates(s)
		_, err = raw.Exec("DROP TABLE spelleds")
		d.must(err)
	}
}

// inserts are the ways in which a program may insert a record.
var inserts = map[string]func(*gorm.DB, *spelled) error{
	"Create":           func(db *gorm.DB, row *spelled) error { return db.Create(row).Error },
	"Create of a list": func(db *gorm.DB, row *spelled) error { return db.Create([]*spelled{row}).Error },
	"Save":             func(db *gorm.DB, row *spelled) error { return db.Save(row).Error },
	"an upsert": func(db *gorm.DB, row *spelled) error {
		return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(row).Error
	},
	"an insert if it is new": func(db *gorm.DB, row *spelled) error {
		return db.Clauses(clause.OnConflict{DoNothing: true}).Create(row).Error
	},
	"Create without a transaction": func(db *gorm.DB, row *spelled) error {
		return db.Session(&gorm.Session{SkipDefaultTransaction: true}).Create(row).Error
	},
	"Create with what the database returns": func(db *gorm.DB, row *spelled) error {
		return db.Clauses(clause.Returning{Columns: []clause.Column{{Name: "id"}}}).Create(row).Error
	},
	"Create in a transaction that goes on": func(db *gorm.DB, row *spelled) (err error) {
		return errors.Join(db.Transaction(func(tx *gorm.DB) error { err = tx.Create(row).Error; return nil }), err)
	},
}

func (d *database) inserts(s spelling, name string, insert func(*gorm.DB, *spelled) error) {
	d.Helper()
	what := fmt.Sprintf("%s of %q into %s", name, s.id, s.column)
	err := insert(d.db, &spelled{ID: s.id, Card: field.New(ada)})
	if s.kept && err != nil {
		d.Errorf("%s: %v", what, err)
	} else if !s.kept {
		d.wantError(what, err, kmsencrypted.ErrLossy)
	}
	d.wantRows(what, map[bool]int{true: 1}[s.kept])
	d.must(d.db.Exec("DELETE FROM spelleds").Error)
}

// wantRows wants so many rows, which open.
func (d *database) wantRows(what string, n int) {
	d.Helper()
	var read []spelled
	d.must(d.db.Find(&read).Error)
	if len(read) != n {
		d.Errorf("%s: %d rows, want %d", what, len(read), n)
	}
	for _, row := range read {
		if row.Card.Must() != ada {
			d.Errorf("%s: another value is in the row", what)
		}
	}
}

// updates gives a row its first key by a record that was never read.
func (d *database) updates(s spelling) {
	d.Helper()
	what := fmt.Sprintf("the first key of %q in %s", s.id, s.column)
	for name, update := range map[string]func(*gorm.DB, *spelled) error{
		"Save":    func(db *gorm.DB, row *spelled) error { return db.Save(row).Error },
		"Updates": func(db *gorm.DB, row *spelled) error { return db.Model(row).Updates(row).Error },
	} {
		d.must(d.db.Exec("INSERT INTO spelleds (id) VALUES (?)", s.id).Error)
		var err error
		d.must(d.db.Transaction(func(tx *gorm.DB) error {
			err = update(tx, &spelled{ID: s.id, Card: field.New(ada)})
			return nil // the program goes on
		}))
		var read []spelled
		d.must(d.db.Find(&read).Error)
		if len(read) != 1 || read[0].Key.IsNull() == s.kept || (err == nil) != s.kept && s.column != "char(3)" {
			d.Errorf("%s by %s: %v, %d rows", what, name, err, len(read))
		}
		if !s.kept && err != nil {
			d.wantError(what, err, kmsencrypted.ErrLossy)
		}
		d.must(d.db.Exec("DELETE FROM spelleds").Error)
	}
}

// A row that the database takes for the record's, under another spelling.
func TestSpellingOfAnother(t *testing.T) {
	t.Parallel()
	raw := kmstest.Canary(t, "mysql", dbserver.MariaDB(t), ada, grace)
	d := &database{T: t, raw: raw}
	box, err := kmsencrypted.NewBox(kmstest.Memory())
	d.must(err)
	m, err := field.NewModel[spelled](box, field.Config{Table: "spelleds"})
	d.must(err)
	d.db, err = gorm.Open(dialectorOf(field.MySQL, raw), &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(d.db.Use(kmsgorm.New(m)))
	d.must(d.db.Exec("CREATE TABLE spelleds (id varchar(10) PRIMARY KEY, encrypted_kms_key text, card text)").Error)
	d.must(d.db.Create(&spelled{ID: "x", Card: field.New(ada)}).Error)
	for _, id := range []string{"X", "x "} {
		for name, write := range inserts {
			if err := write(d.db, &spelled{ID: id, Card: field.New(grace)}); err == nil && name != "an insert if it is new" {
				t.Errorf("%s of %q over x: no error", name, id)
			}
			d.wantRows(fmt.Sprintf("%s of %q", name, id), 1)
		}
	}
}
