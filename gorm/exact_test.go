package kmsgorm_test

import (
	"database/sql"
	"fmt"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func TestTenantsAreTextsMariaDB(t *testing.T) {
	testTenantsAreTexts(t, kmstest.Canary(t, "mysql", dbserver.MariaDB(t), ada), field.MySQL, "varchar(20)")
}

func TestTenantsAreTextsMySQL(t *testing.T) {
	testTenantsAreTexts(t, kmstest.Canary(t, "mysql", dbserver.MySQL(t), ada), field.MySQL, "varchar(20)")
}

func TestTenantsAreTextsMySQLish(t *testing.T) {
	testTenantsAreTexts(t, kmstest.Canary(t, mysqlish.Driver(), dbserver.MariaDB(t), ada), field.MySQL, "char(20)")
}

func TestTenantsAreTextsPostgres(t *testing.T) {
	raw := kmstest.Canary(t, "pgx", dbserver.Postgres(t), ada)
	if _, err := raw.Exec("CREATE EXTENSION citext"); err != nil {
		t.Fatal(err)
	}
	testTenantsAreTexts(t, raw, field.Postgres, "citext")
}

func TestTenantsAreTextsSQLite(t *testing.T) {
	testTenantsAreTexts(t, kmstest.Canary(t, "sqlite", t.TempDir()+"/test.sqlite3", ada), field.SQLite, "text COLLATE NOCASE")
}

// testTenantsAreTexts: a record that was read for one tenant is not saved for
// another whose name only the collation of its column takes for the same.
func testTenantsAreTexts(t *testing.T, raw *sql.DB, dialect field.Dialect, column string) {
	d := &database{T: t, raw: raw}
	version := kmsencrypted.Version{Provider: kmstest.Memory(), Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"tenant": s.Record.(*Document).Tenant}, nil
	}}
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: version}}.Box()
	d.must(err)
	documents, err := field.NewModel[Document](box, field.Config{Table: "documents"})
	d.must(err)
	_, err = raw.Exec(fmt.Sprintf("CREATE TABLE documents (id integer PRIMARY KEY, tenant %s, encrypted_kms_key text, body_ciphertext text)", column))
	d.must(err)
	open := gorm.Dialector(sqlite.New(sqlite.Config{Conn: raw}))
	if dialect != field.SQLite {
		open = dialectorOf(dialect, raw)
	}
	db, err := gorm.Open(open, &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(db.Use(kmsgorm.New(documents)))

	c := Document{ID: 1, Tenant: "acme", Body: field.New(ada)}
	d.must(db.Create(&c).Error)
	c.Body.Set(ada + ada)
	d.must(db.Save(&c).Error)
	var closed Document
	d.must(db.Scopes(kmsgorm.Lazily).First(&closed, 1).Error)
	closed.Tenant = "Acme"
	if err := db.Save(&closed).Error; err == nil {
		t.Error("Save for another tenant of a record that was not opened: no error")
	}
	closed = Document{ID: 1, Tenant: "Acme"}
	d.must(raw.QueryRow("SELECT encrypted_kms_key, body_ciphertext FROM documents").Scan(&closed.Key, &closed.Body))
	d.wantError("Save of what was read by hand", db.Save(&closed).Error, kmsencrypted.ErrConflict)
	var again Document
	d.must(db.First(&again, 1).Error)
	again.Tenant = "ACME"
	d.must(db.Save(&again).Error)
	d.must(db.First(&again, 1).Error)
	if again.Tenant != "ACME" || again.Body.Must() != ada+ada {
		t.Errorf("the record of %s after its move", again.Tenant)
	}
}
