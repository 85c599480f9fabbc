package kmsgorm_test

import (
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

// respelling is a column of the encryption context, a tenant that it keeps, and one of
// which it keeps another text.
type respelling struct {
	column, kept, respelled string
	triggers                []string
}

func TestContextsInAnotherSpellingSQLite(t *testing.T) {
	t.Parallel()
	testRespellings(t, field.SQLite, "sqlite", filepath.Join(t.TempDir(), "app.sqlite3"), "id INTEGER PRIMARY KEY",
		respelling{"integer", "7", "007", nil},
		respelling{"text", "a", "A", []string{
			"CREATE TRIGGER new AFTER INSERT ON documents BEGIN UPDATE documents SET tenant = lower(tenant) WHERE id = NEW.id; END",
			"CREATE TRIGGER other AFTER UPDATE ON documents BEGIN UPDATE documents SET tenant = lower(tenant) WHERE id = NEW.id; END"}})
}

func TestContextsInAnotherSpellingPostgres(t *testing.T) {
	t.Parallel()
	testRespellings(t, field.Postgres, "pgx", dbserver.Postgres(t)+"&default_query_exec_mode=describe_exec", "id bigserial PRIMARY KEY",
		respelling{"uuid", lower, upper, nil},
		respelling{"char(10)", "a         ", "a", nil},
		respelling{"varchar(10)", "a", "A", []string{
			"CREATE FUNCTION lowers() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tenant := lower(NEW.tenant); RETURN NEW; END $$",
			"CREATE TRIGGER lowers BEFORE INSERT OR UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION lowers()"}})
}

var mariadbRespellings = []respelling{
	{"char(10)", "a", "a ", nil},
	{"varchar(10)", "a", "A", []string{
		"CREATE TRIGGER new BEFORE INSERT ON documents FOR EACH ROW SET NEW.tenant = lower(NEW.tenant)",
		"CREATE TRIGGER other BEFORE UPDATE ON documents FOR EACH ROW SET NEW.tenant = lower(NEW.tenant)"}},
}

func TestContextsInAnotherSpellingMariaDB(t *testing.T) {
	t.Parallel()
	testRespellings(t, field.MySQL, "mysql", dbserver.MariaDB(t), autoID, append(mariadbRespellings, respelling{"uuid", lower, upper, nil})...)
}

func TestContextsInAnotherSpellingMySQLish(t *testing.T) {
	t.Parallel()
	testRespellings(t, field.MySQL, mysqlish.Driver(), dbserver.MariaDB(t)+"&sql_mode=''", autoID, mariadbRespellings...)
}

// respelled is a database of documents.
type respelled struct {
	database
	documents *field.Model[Document]
}

// testRespellings: a row whose context the database spells otherwise would never open.
func testRespellings(t *testing.T, dialect field.Dialect, driver, dsn, id string, respellings ...respelling) {
	raw := kmstest.Canary(t, driver, dsn, ada, grace)
	d := &respelled{database: database{T: t, raw: raw}}
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory(), Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"tenant": s.Record.(*Document).Tenant}, nil
	}}}}.Box()
	d.must(err)
	d.documents, err = field.NewModel[Document](box, field.Config{Table: "documents"})
	d.must(err)
	open := gorm.Dialector(sqlite.New(sqlite.Config{Conn: raw}))
	if dialect != field.SQLite {
		open = dialectorOf(dialect, raw)
	}
	d.db, err = gorm.Open(open, &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(d.db.Use(kmsgorm.New(d.documents)))
	for _, r := range respellings {
		for _, statement := range append([]string{"CREATE TABLE documents (" + id + ", tenant " + r.column + ", encrypted_kms_key text, body_ciphertext text)"}, r.triggers...) {
			_, err := raw.Exec(statement)
			d.must(err)
		}
		for _, id := range []int64{0, 7} {
			d.insertsDocuments(r, id)
		}
		d.movesDocuments(r)
		_, err := raw.Exec("DROP TABLE documents")
		d.must(err)
	}
}

func (d *respelled) insertsDocuments(r respelling, id int64) {
	d.Helper()
	for name, insert := range map[string]func(db *gorm.DB, rows []*Document) error{
		"Create": func(db *gorm.DB, rows []*Document) error { return db.Create(rows).Error },
		"an upsert": func(db *gorm.DB, rows []*Document) error {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(rows).Error
		},
		"an insert if it is new": func(db *gorm.DB, rows []*Document) error {
			return db.Clauses(clause.OnConflict{DoNothing: true}).Create(rows).Error
		},
		"Save": func(db *gorm.DB, rows []*Document) error { return db.Save(rows).Error },
		"Create without a transaction": func(db *gorm.DB, rows []*Document) error {
			return db.Session(&gorm.Session{SkipDefaultTransaction: true}).Create(rows).Error
		},
		"Create in a transaction that goes on": goesOn(func(tx *gorm.DB, rows []*Document) error { return tx.Create(rows).Error }),
	} {
		for tenant, want := range map[string]error{r.kept: nil, r.respelled: kmsencrypted.ErrLossy} {
			what := fmt.Sprintf("%s for %q in %s with id %d", name, tenant, r.column, id)
			rows := []*Document{{ID: id, Tenant: r.kept, Body: field.New(ada)}, {ID: id, Tenant: tenant, Body: field.New(ada)}}
			if id > 0 {
				rows[1].ID++
			}
			err := insert(d.db, rows)
			if !errors.Is(err, want) {
				d.Errorf("%s: %v, want %v", what, err, want)
			}
			if failures, ok := errors.AsType[field.Failures](err); want != nil && (!ok || failures[0].Index != 1) {
				d.Errorf("%s: %v does not name record 1", what, err)
			}
			d.wantDocuments(what, map[bool]int{true: 2}[want == nil])
			d.must(d.db.Exec("DELETE FROM documents").Error)
		}
	}
}

// goesOn does something in a transaction that is committed whatever became of it.
func goesOn[T any](do func(*gorm.DB, T) error) func(*gorm.DB, T) error {
	return func(db *gorm.DB, row T) (err error) {
		committed := db.Transaction(func(tx *gorm.DB) error { err = do(tx, row); return nil })
		return errors.Join(err, committed)
	}
}

// wantDocuments wants so many rows, which open.
func (d *respelled) wantDocuments(what string, n int) (read []Document) {
	d.Helper()
	if err := d.db.Find(&read).Error; err != nil || len(read) != n {
		d.Errorf("%s: %d rows, want %d: %v", what, len(read), n, err)
	}
	for _, row := range read {
		if row.Body.Must() != ada {
			d.Errorf("%s: another value is in the row", what)
		}
	}
	return read
}

func (d *respelled) movesDocuments(r respelling) {
	d.Helper()
	for name, move := range map[string]func(*gorm.DB, *Document) error{
		"Save":   func(db *gorm.DB, c *Document) error { return db.Save(c).Error },
		"Update": func(db *gorm.DB, c *Document) error { return db.Model(c).Update("tenant", c.Tenant).Error },
		"an upsert": func(db *gorm.DB, c *Document) error {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(c).Error
		},
		"Save without a transaction": func(db *gorm.DB, c *Document) error {
			return db.Session(&gorm.Session{SkipDefaultTransaction: true}).Save(c).Error
		},
		"Save in a transaction that goes on":   goesOn(func(tx *gorm.DB, c *Document) error { return tx.Save(c).Error }),
		"Update in a transaction that goes on": goesOn(func(tx *gorm.DB, c *Document) error { return tx.Model(c).Update("tenant", c.Tenant).Error }),
		"an upsert in a transaction that goes on": goesOn(func(tx *gorm.DB, c *Document) error {
			return tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(c).Error
		}),
		"a rekey": func(db *gorm.DB, c *Document) error {
			if err := d.documents.Rekey(d.Context(), c); err != nil {
				return err
			}
			return db.Save(c).Error
		},
	} {
		what := fmt.Sprintf("%s to %q in %s", name, r.respelled, r.column)
		d.must(d.db.Create(&Document{Tenant: r.kept, Body: field.New(ada)}).Error)
		var c Document
		d.must(d.db.First(&c).Error)
		c.Tenant = r.respelled
		d.wantError(what, move(d.db, &c), kmsencrypted.ErrLossy)
		if read := d.wantDocuments(what, 1); len(read) == 1 && read[0].Tenant != r.kept {
			d.Errorf("%s: refused, and the row is of tenant %q", what, read[0].Tenant)
		}
		c.Tenant = r.kept // after that the record may be written
		d.must(move(d.db, &c))
		d.wantDocuments(what+" and back", 1)
		d.must(d.db.Exec("DELETE FROM documents").Error)
	}
}
