package kmsgorm_test

import (
	"path/filepath"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type oddity struct {
	ID   int64            `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Card field.Of[string] `db:"odd@name" gorm:"column:odd@name;type:text"`
}

func TestOddColumnsSQLite(t *testing.T) {
	t.Parallel()
	testOddColumns(t, field.SQLite, "sqlite", filepath.Join(t.TempDir(), "app.sqlite3"), "id INTEGER PRIMARY KEY, encrypted_kms_key blob, \"odd@name\" text")
}

func TestOddColumnsPostgres(t *testing.T) {
	t.Parallel()
	testOddColumns(t, field.Postgres, "pgx", dbserver.Postgres(t), "id bigserial PRIMARY KEY, encrypted_kms_key bytea, \"odd@name\" text")
}

func TestOddColumnsMariaDB(t *testing.T) {
	t.Parallel()
	testOddColumns(t, field.MySQL, "mysql", dbserver.MariaDB(t), autoID+", encrypted_kms_key blob, `odd@name` text")
}

// testOddColumns: a wrapped key, which is text, in a column of bytes, and a column with a
// sign in its name that GORM takes for that of a named argument elsewhere.
func testOddColumns(t *testing.T, dialect field.Dialect, driver, dsn, columns string) {
	raw := kmstest.Canary(t, driver, dsn, ada, grace)
	d := &database{T: t, raw: raw}
	box, err := kmsencrypted.NewBox(kmstest.Memory())
	d.must(err)
	m, err := field.NewModel[oddity](box, field.Config{Table: "oddities"})
	d.must(err)
	open := gorm.Dialector(sqlite.New(sqlite.Config{Conn: raw}))
	if dialect != field.SQLite {
		open = dialectorOf(dialect, raw)
	}
	d.db, err = gorm.Open(open, &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(d.db.Use(kmsgorm.New(m)))
	_, err = raw.Exec("CREATE TABLE oddities (" + columns + ")")
	d.must(err)
	c := oddity{Card: field.New(ada)}
	d.must(d.db.Create(&c).Error)
	for _, fresh := range []bool{false, true} {
		if fresh {
			d.must(d.db.First(&c, c.ID).Error)
		}
		c.Card.Set(grace)
		d.must(d.db.Save(&c).Error)
		d.must(m.Rekey(t.Context(), &c))
		d.must(d.db.Save(&c).Error)
		d.must(d.db.Model(&c).Update("odd@name", ada).Error)
	}
	many := []*oddity{{ID: 70, Card: field.New(ada)}, {ID: 71, Card: field.New(ada)}}
	d.must(d.db.Create(many).Error)
	d.must(d.db.Save(many).Error)
	var read []oddity
	d.must(d.db.Find(&read).Error)
	if len(read) != 3 {
		t.Errorf("%d rows, want 3", len(read))
	}
	for _, row := range read {
		if row.Card.Must() != ada {
			t.Error("read back another value")
		}
	}
}
