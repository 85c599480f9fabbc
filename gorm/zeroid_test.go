package kmsgorm_test

import (
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
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type line struct {
	Shop  int64            `db:"shop" kms:"id" gorm:"primaryKey;autoIncrement:false"`
	Line  int64            `db:"line" kms:"id" gorm:"primaryKey;autoIncrement:false"`
	Title string           `db:"title"`
	Key   field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Note  field.Of[string] `db:"note" gorm:"type:text"`
}

func TestZeroInCompositeKeySQLite(t *testing.T) {
	t.Parallel()
	raw := kmstest.Canary(t, "sqlite", filepath.Join(t.TempDir(), "app.sqlite3"), ada, grace)
	testZeroInCompositeKey(t, sqlite.New(sqlite.Config{Conn: raw}))
}

func TestZeroInCompositeKeyMariaDB(t *testing.T) {
	t.Parallel()
	raw := kmstest.Canary(t, "mysql", dbserver.MariaDB(t), ada, grace)
	testZeroInCompositeKey(t, dialectorOf(field.MySQL, raw))
}

// A 0 in a composite key is a value like any other. GORM leaves it out of the
// conditions that it makes, so that other rows would be written.
func testZeroInCompositeKey(t *testing.T, dialector gorm.Dialector) {
	d := &database{T: t}
	box, err := kmsencrypted.NewBox(kmstest.Memory())
	d.must(err)
	m, err := field.NewModel[line](box, field.Config{Table: "lines"})
	d.must(err)
	d.db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(d.db.Use(kmsgorm.New(m)))
	for name, write := range map[string]func(*line) error{
		"Updates":            func(l *line) error { return d.db.Model(l).Updates(l).Error },
		"Updates of all":     func(l *line) error { return d.db.Model(l).Select("*").Updates(l).Error },
		"Updates with a map": func(l *line) error { return d.db.Model(l).Updates(map[string]any{"note": grace, "title": "new"}).Error },
		"plain columns only": func(l *line) error { return d.db.Model(l).Select("title").Updates(l).Error },
		"an upsert":          func(l *line) error { return d.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(l).Error },
	} {
		for _, read := range []bool{true, false} {
			for _, id := range [][2]int64{{0, 0}, {0, 1}, {1, 0}} {
				d.zeroIsAValue(name, id, read, write)
			}
		}
	}
}

func (d *database) zeroIsAValue(name string, id [2]int64, read bool, write func(*line) error) {
	d.Helper()
	d.must(d.db.Exec("DROP TABLE IF EXISTS `lines`").Error)
	d.must(d.db.Exec("CREATE TABLE `lines` (shop bigint, line bigint, title text, encrypted_kms_key text, note text, PRIMARY KEY (shop, line))").Error)
	var all []line
	for shop := range int64(2) {
		for n := range int64(2) {
			l := line{Shop: shop, Line: n, Title: "old"}
			if read {
				l.Note = field.New(ada)
			}
			all = append(all, l)
		}
	}
	d.must(d.db.Create(&all).Error)
	mine := line{Shop: id[0], Line: id[1]}
	if read {
		d.must(d.db.Where("shop = ? AND line = ?", id[0], id[1]).Take(&mine).Error)
	}
	mine.Title = "new"
	mine.Note.Set(grace)
	d.must(write(&mine))
	d.must(d.db.Find(&all).Error)
	for _, l := range all {
		isMine := l.Shop == id[0] && l.Line == id[1]
		note := l.Note.Must()
		if (l.Title == "new") != isMine || note != grace && isMine && name != "plain columns only" || note == grace && !isMine {
			d.Errorf("%s of %v, read %t: row %d/%d has another value", name, id, read, l.Shop, l.Line)
		}
	}
}
