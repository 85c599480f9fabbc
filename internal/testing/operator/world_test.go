package operator

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// customer has two keys, and its tenant chooses both.
type customer struct {
	ID       int64             `db:"id"`
	Tenant   string            `db:"tenant" kms:"context"`
	Key      field.Key         `db:"encrypted_kms_key"`
	PhoneKey field.Key         `db:"encrypted_kms_key_phone" kms:"name=phone"`
	Email    field.Of[*string] `db:"email_ciphertext"`
	Phone    field.Of[*string] `db:"phone_ciphertext" kms:"key=phone"`
}

// person is a record of a Ruby application, whose versions 1 and 2 are Ruby's.
type person struct {
	ID    int64             `db:"id"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Email field.Of[*string] `db:"email_ciphertext" kms:"lockbox"`
	Phone field.Of[*string] `db:"phone_ciphertext" kms:"lockbox"`
}

// server is a database that programs run on.
type server struct {
	name, driver, known string
	dialect             field.Dialect
	dsn                 func(testing.TB) string
}

func servers() []server {
	mariadb := func(name, driver, more string) server {
		return server{name, driver, "mysql", field.MySQL, func(t testing.TB) string { return dbserver.MariaDB(t) + more }}
	}
	return []server{
		{"SQLite", "sqlite", "sqlite", field.SQLite, func(t testing.TB) string {
			return "file:" + t.TempDir() + "/test.db?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)"
		}},
		{"Postgres", "pgx", "pgx", field.Postgres, func(t testing.TB) string { return dbserver.Postgres(t) + "&default_query_exec_mode=describe_exec" }},
		mariadb("MariaDB", "mysql", ""),
		mariadb("MariaDBLenient", "mysql", "&sql_mode=''"),
		mariadb("MySQLish", mysqlish.Driver(), ""),
	}
}

// world is a server with the tables and key services of the program that runs.
type world struct {
	server
	*testing.T
	url      string
	db       *sqlx.DB
	services map[string]*kmstest.Service // by version and tenant; people have the tenant ""
	current  [2]int                      // version of each table
	shadow   [2]map[int64]*record
	refused  map[string]error // of tenants
	verified [2]bool          // a verification was clean, and no run moved a key since
	fresh    [2]bool          // a verification was clean, and nothing was typed since that may change this
	count    *counts

	mu     sync.Mutex
	during func() // what happens in the middle of the command that runs
	calls  atomic.Int64
	lastID int64
}

// record is what the application was told that it has.
type record struct {
	tenant string
	values [2]*string
}

var tables = []string{"customers", "people"}

// sealed is the version of customers that seals records.
const sealed = 3

func (s server) open(t *testing.T) *world {
	t.Helper()
	w := &world{server: s, T: t, url: s.dsn(t), services: make(map[string]*kmstest.Service), count: newCounts()}
	w.db = w.connect()
	for version := 1; version <= 3; version++ {
		for _, tenant := range append([]string{""}, tenants...) {
			w.services[serviceName(version, tenant)] = kmstest.NewService(kmstest.Memory())
		}
	}
	return w
}

func (w *world) connect() *sqlx.DB {
	db, err := sqlx.Open(w.driver, w.url)
	if err != nil {
		w.Fatal(err)
	}
	db = sqlx.NewDb(db.DB, w.known)
	w.Cleanup(func() { db.Close() })
	return db
}

func serviceName(version int, tenant string) string { return fmt.Sprint(version, " ", tenant) }

// begin makes the tables anew.
func (w *world) begin(ctx context.Context) error {
	w.current, w.shadow, w.refused, w.lastID = [2]int{1, 1}, [2]map[int64]*record{{}, {}}, map[string]error{}, 0
	w.verified, w.fresh, w.during = [2]bool{}, [2]bool{}, nil
	w.trouble()
	for _, table := range []string{"customers", "people", "kms_rotations", "kms_rotation_shards", "kms_rotation_failures", "kms_rotation_journal", "kms_rate_limits", "kms_tables"} {
		if _, err := w.db.ExecContext(ctx, "DROP TABLE IF EXISTS "+table); err != nil {
			return err
		}
	}
	customers, people := w.customers(1), w.people(1)
	for table, ddl := range map[string]func(field.Dialect) ([]string, error){"customers": customers.DDL, "people": people.DDL} {
		columns, err := ddl(w.dialect)
		if err != nil {
			return err
		}
		columns = append([]string{"id bigint PRIMARY KEY"}, columns...)
		if table == "customers" {
			columns = append(columns, "tenant varchar(20) NOT NULL")
		}
		if _, err := w.db.ExecContext(ctx, "CREATE TABLE "+table+" ("+strings.Join(columns, ", ")+")"); err != nil {
			return err
		}
	}
	return nil
}

// trouble sets the faults of the key services, and what happens during a command.
func (w *world) trouble() {
	hook := kmstest.Before(func(context.Context) error { w.called(); return nil }).On(kmsencrypted.OpWrap)
	for version := 1; version <= 3; version++ {
		for _, tenant := range append([]string{""}, tenants...) {
			faults := []kmstest.Fault{hook}
			switch err := w.refused[tenant]; err {
			case nil:
			case kmsencrypted.ErrThrottled:
				faults = append(faults, kmstest.Throttle(0.2))
			default:
				faults = append(faults, kmstest.Fail(err, 1))
			}
			s := w.services[serviceName(version, tenant)]
			s.Set(faults...)
			s.Forget()
		}
	}
}

// called counts the calls that wrap in the command that runs.
func (w *world) called() {
	w.mu.Lock()
	if w.during == nil || w.calls.Add(-1) > 0 {
		w.mu.Unlock()
		return
	}
	do := w.during
	w.during = nil
	w.mu.Unlock()
	do() // which calls key services as well
}

// customersBox leaves out versions up to retired.
func (w *world) customersBox(current, retired int) *kmsencrypted.Box {
	config := kmsencrypted.Config{Current: current, Versions: make(map[int]kmsencrypted.Version)}
	for n := retired + 1; n <= 3; n++ {
		config.Versions[n] = kmsencrypted.Version{
			RecordSeal: n == sealed,
			Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
				return kmsencrypted.Context{"tenant": s.Record.(*customer).Tenant, "id": s.ID[0]}, nil
			},
			ProviderFor: func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
				return w.services[serviceName(n, s.Record.(*customer).Tenant)].Provider(), nil
			},
		}
	}
	b, err := config.Box()
	if err != nil {
		w.Fatal(err)
	}
	return b
}

func (w *world) peopleBox(current, retired int) *kmsencrypted.Box {
	config := kmsencrypted.Config{Current: current, Versions: make(map[int]kmsencrypted.Version)}
	for n := retired + 1; n <= 3; n++ {
		v := kmsencrypted.Version{Provider: w.services[serviceName(n, "")].Provider()}
		if n < 3 {
			v.Format = kmsencrypted.Ruby
		}
		config.Versions[n] = v
	}
	b, err := config.Box()
	if err != nil {
		w.Fatal(err)
	}
	return b
}

func (w *world) customers(current int) *field.Model[customer] {
	return modelOf[customer](w, w.customersBox(current, 0), "customers")
}

func (w *world) people(current int) *field.Model[person] {
	return modelOf[person](w, w.peopleBox(current, 0), "people")
}

func modelOf[R any](w *world, b *kmsencrypted.Box, table string) *field.Model[R] {
	m, err := field.NewModel[R](b, field.Config{Table: table})
	if err != nil {
		w.Fatal(err)
	}
	return m
}

// keys returns the key columns of a table, by id and name; NULLs are left out.
func (w *world) keys(table int) map[string]string {
	columns := [][]string{{"encrypted_kms_key", "encrypted_kms_key_phone"}, {"encrypted_kms_key"}}[table]
	keys := make(map[string]string)
	for _, column := range columns {
		var rows []struct {
			ID  int64
			Key sql.Null[string] `db:"wrapped"`
		}
		if err := w.db.Select(&rows, "SELECT id, "+column+" AS wrapped FROM "+tables[table]); err != nil {
			w.Fatal(err)
		}
		for _, r := range rows {
			if r.Key.Valid {
				keys[fmt.Sprint(r.ID, " ", column)] = r.Key.V
			}
		}
	}
	return keys
}
