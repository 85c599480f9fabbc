package kmsgorm_test

import (
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/mysql"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// dialector is as much of PostgreSQL's as these tests need: what GORM's own driver
// would bring along is not worth it.
type dialector struct{ sqlite.Dialector }

func (dialector) Name() string { return "postgres" }

func (d dialector) Initialize(db *gorm.DB) error {
	db.ConnPool = d.Conn
	callbacks.RegisterDefaultCallbacks(db, &callbacks.Config{
		CreateClauses: []string{"INSERT", "VALUES", "ON CONFLICT", "RETURNING"},
		UpdateClauses: []string{"UPDATE", "SET", "FROM", "WHERE", "RETURNING"},
	})
	return nil
}

func (dialector) BindVarTo(w clause.Writer, stmt *gorm.Statement, v any) {
	_ = w.WriteByte('$')
	_, _ = w.WriteString(strconv.Itoa(len(stmt.Vars)))
}

func (dialector) QuoteTo(w clause.Writer, name string) {
	_, _ = w.WriteString(`"` + strings.ReplaceAll(name, ".", `"."`) + `"`)
}

// dialectorOf is GORM's own driver for MySQL on a connection that is there.
func dialectorOf(dialect field.Dialect, raw *sql.DB) gorm.Dialector {
	if dialect == field.Postgres {
		return dialector{sqlite.Dialector{Conn: raw}}
	}
	return mysql.New(mysql.Config{Conn: raw})
}

func TestServerPostgres(t *testing.T) {
	t.Parallel()
	testServer(t, field.Postgres, "pgx", dbserver.Postgres(t), "id bigserial PRIMARY KEY")
}

// Without clientFoundRows MariaDB counts rows that changed, not rows that matched.
func TestServerMariaDB(t *testing.T) {
	t.Parallel()
	testServer(t, field.MySQL, "mysql", dbserver.MariaDB(t), autoID)
}

func TestServerMySQL(t *testing.T) {
	t.Parallel()
	testServer(t, field.MySQL, "mysql", dbserver.MySQL(t), autoID)
}

func TestServerMySQLish(t *testing.T) {
	t.Parallel()
	testServer(t, field.MySQL, mysqlish.Driver(), dbserver.MariaDB(t), autoID)
}

func TestServerMySQLishCluster(t *testing.T) {
	t.Parallel()
	testServer(t, field.MySQL, mysqlish.Driver(), dbserver.MariaDB(t)+"&auto_increment_increment=7", autoID)
}

const autoID = "id bigint AUTO_INCREMENT PRIMARY KEY"

// testServer takes a record through its life behind the constraint.
func testServer(t *testing.T, dialect field.Dialect, driver, dsn, id string) {
	d := &database{T: t}
	raw := kmstest.Canary(t, driver, dsn, ada, grace, phone)
	key, err := local.Create(t.TempDir() + "/keys.txt")
	d.must(err)
	box, err := kmsencrypted.NewBox(key)
	d.must(err)
	indexKey, err := blindindex.NewMasterKey(make([]byte, blindindex.KeySize))
	d.must(err)
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers", IndexKey: indexKey})
	d.must(err)
	columns, err := customers.DDL(dialect)
	d.must(err)
	wall, err := customers.CheckConstraint(dialect)
	d.must(err)
	_, err = raw.Exec("CREATE TABLE customers (" + strings.Join(append([]string{id, "name text"}, append(columns, wall)...), ", ") + ")")
	d.must(err)
	db, err := gorm.Open(dialectorOf(dialect, raw), &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(db.Use(kmsgorm.New(customers)))

	number := phone
	people := []Customer{{Name: "Ada", Email: field.New(ada), Phone: field.New(&number)}, {Name: "Grace", Email: field.New(grace), Photo: field.New([]byte("\xff\xd8"))}}
	d.must(db.Create(&people).Error)
	d.must(db.Create(&Customer{ID: 70, Email: field.New(ada)}).Error)

	var list []Customer
	d.must(db.Order("id").Find(&list).Error)
	if len(list) != 3 || list[0].Email.Must() != ada || *list[0].Phone.Must() != phone || list[1].Email.Must() != grace || list[2].ID != 70 {
		t.Fatalf("Find: %d records", len(list))
	}
	if got := list[1].Photo.Must(); string(got) != "\xff\xd8" {
		t.Errorf("Photo = %x", got)
	}
	list[1].Photo.Set([]byte("\xff\xd9"))
	d.must(db.Save(&list[1]).Error)
	var again Customer
	d.must(db.First(&again, list[1].ID).Error)
	if got := again.Photo.Must(); string(got) != "\xff\xd9" {
		t.Errorf("Photo = %x after Save", got)
	}
	c := list[0]
	d.must(db.Save(&c).Error) // nothing changed
	stale := c
	c.Email.Set(grace)
	c.Phone.SetNull()
	d.must(db.Save(&c).Error)
	d.must(db.Save(&c).Error)
	d.must(db.Save(&Customer{ID: 71, Email: field.New(ada)}).Error)

	var found []Customer
	d.must(db.Where(kmsgorm.Matches(customers.Lookup("Email", grace))).Order("id").Find(&found).Error)
	if len(found) != 2 || found[0].Email.Must() != grace || !found[0].Phone.IsNull() {
		t.Errorf("Matches: %d records", len(found))
	}

	rekeyed := found[0]
	d.must(customers.Rekey(t.Context(), &rekeyed))
	d.must(db.Save(&rekeyed).Error)
	stale.Email.Set(ada)
	d.wantError("Save of a stale record", db.Save(&stale).Error, kmsencrypted.ErrConflict)
	d.wantError("Update of a stale record", db.Model(&stale).Update("email_ciphertext", ada).Error, kmsencrypted.ErrConflict)

	retries(d, db)
	if dialect == field.Postgres {
		savesUnderATakenID(d, db)
	}

	if err := db.Exec("UPDATE customers SET email_ciphertext = 'somebody' WHERE id = 70").Error; err == nil {
		t.Error("the constraint takes plaintext from raw SQL")
	}
}

// A sequence may give an id that the program chose for another row. Then Save, which
// inserts a record again after a rollback, has inserted nothing.
func savesUnderATakenID(d *database, db *gorm.DB) {
	d.Helper()
	failed := errors.New("as after a serialization failure")
	c := Customer{Name: "new", Email: field.New(ada)}
	d.wantError("Transaction", db.Transaction(func(tx *gorm.DB) error { d.must(tx.Create(&c).Error); return failed }), failed)
	d.must(db.Exec("SELECT setval('customers_id_seq', 69)").Error)
	d.wantError("Save under a taken id", db.Save(&c).Error, kmsencrypted.ErrConflict)
	d.must(db.Exec("SELECT setval('customers_id_seq', 100)").Error)
	d.must(db.Save(&c).Error)
	if c.ID != 101 {
		d.Errorf("Save gave the id %d, want 101", c.ID)
	}
}
