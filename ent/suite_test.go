package kment_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	kment "github.com/kmsencrypted/kmsencrypted/ent"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// Every text that is encrypted in these tests holds secret, and whatever is written to
// a database or said by an error must not.
const secret = "topsecret.example"

// server is a database under test.
type server struct {
	driver, dialect string
	open            func(testing.TB) (dsn string)
}

var (
	postgres = server{"pgx", dialect.Postgres, dbserver.Postgres}
	mariadb  = server{"mysql", dialect.MySQL, dbserver.MariaDB}
	mysql    = server{"mysql", dialect.MySQL, dbserver.MySQL}
	sqlite   = server{"sqlite", dialect.SQLite, func(t testing.TB) string {
		return "file:" + t.TempDir() + "/test.db?_pragma=foreign_keys(1)&_pragma=journal_mode(wal)&_pragma=synchronous(off)&_pragma=busy_timeout(20000)&_txlock=immediate"
	}}
	cluster = server{"mysql", dialect.MySQL, func(t testing.TB) string { return dbserver.MariaDB(t) + "&auto_increment_increment=7" }}
	lenient = server{"mysql", dialect.MySQL, func(t testing.TB) string { return dbserver.MariaDB(t) + "&sql_mode=''" }}
)

func TestSuitePostgres(t *testing.T)       { t.Parallel(); runSuite(t, postgres) }
func TestSuiteMariaDB(t *testing.T)        { t.Parallel(); runSuite(t, mariadb) }
func TestSuiteMariaDBCluster(t *testing.T) { t.Parallel(); runSuite(t, cluster) }
func TestSuiteMariaDBLenient(t *testing.T) { t.Parallel(); runSuite(t, lenient) }
func TestSuiteMySQL(t *testing.T)          { t.Parallel(); runSuite(t, mysql) }
func TestSuiteSQLite(t *testing.T)         { t.Parallel(); runSuite(t, sqlite) }

// suite runs on every database, with a canary for the secret in between.
var suite []test

type test struct {
	name string
	run  func(*testing.T, *env)
}

func runSuite(t *testing.T, s server) {
	db := kmstest.Canary(t, s.driver, s.open(t), secret)
	db.SetMaxOpenConns(16)
	e := &env{server: s, db: db}
	migrated := false
	for _, c := range suite {
		t.Run(c.name, func(t *testing.T) {
			store := e.store(t)
			if !migrated {
				must(t, store.client.Schema.Create(t.Context()))
				migrated = true
			}
			for _, table := range []string{"customer_friends", "notes", "customers", "tenants"} {
				_, err := db.ExecContext(t.Context(), "DELETE FROM "+table)
				must(t, err)
			}
			e.log.reset()
			c.run(t, e)
		})
	}
}

// env is what a test of the suite works with.
type env struct {
	server
	db  *sql.DB
	log sentLog
}

// store is a client of the tables.
type store struct {
	*env
	client    *shop.Client
	customers *field.Model[shop.Customer]
	notes     *field.Model[shop.Note]
	kms       *kmstest.Service
}

// store returns a client with a key service of its own. version may change the recipe.
func (e *env) store(t testing.TB, version ...func(*kmsencrypted.Version)) *store {
	t.Helper()
	k := kmstest.NewService(kmstest.Memory())
	return e.with(t, k, config(k, version...))
}

func config(k *kmstest.Service, version ...func(*kmsencrypted.Version)) kmsencrypted.Config {
	v := kmsencrypted.Version{Provider: k.Provider()}
	for _, change := range version {
		change(&v)
	}
	return kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: v}}
}

func (e *env) with(t testing.TB, k *kmstest.Service, c kmsencrypted.Config) *store {
	t.Helper()
	box, err := c.Box()
	must(t, err)
	indexKey, err := blindindex.NewMasterKey([]byte(strings.Repeat("k", blindindex.KeySize)))
	must(t, err)
	s := &store{env: e, kms: k}
	s.customers, err = field.NewModel[shop.Customer](box, field.Config{Table: "customers", IndexKey: indexKey, Complete: true})
	must(t, err)
	s.notes, err = field.NewModel[shop.Note](box, field.Config{Table: "notes", Complete: true})
	must(t, err)
	driver, err := kment.Wrap(&logged{entsql.OpenDB(e.dialect, e.db), &e.log}, s.customers, s.notes)
	must(t, err)
	s.client = shop.NewClient(shop.Driver(driver), shop.Log(func(line ...any) {
		if strings.Contains(fmt.Sprint(line...), secret) || strings.Contains(fmt.Sprintf("%#v", line), secret) {
			t.Errorf("the log of ent holds the secret")
		}
	}))
	return s
}

func email(n int) string { return fmt.Sprintf("customer%d@%s", n, secret) }

func devices(n int) map[string]netip.Addr {
	return map[string]netip.Addr{secret: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})}
}

// create creates n customers, one by one.
func (s *store) create(t testing.TB, n int) (all []*shop.Customer) {
	t.Helper()
	for i := range n {
		c, err := s.one(i).Save(t.Context())
		must(t, err)
		all = append(all, c)
	}
	return all
}

func (s *store) one(i int) *shop.CustomerCreate {
	return s.client.Customer.Create().SetName(fmt.Sprintf("name%d", i)).SetEmail(field.New(email(i))).SetDevices(field.New(devices(i))).SetCard(field.New([]byte(secret)))
}

func (s *store) get(t testing.TB, id int) *shop.Customer {
	t.Helper()
	c, err := s.client.Customer.Get(t.Context(), id)
	must(t, err)
	return c
}

// calls is how many calls to the key service f makes.
func (s *store) calls(f func()) (wraps, unwraps int) {
	wraps, unwraps = s.kms.Count(kmsencrypted.OpWrap), s.kms.Count(kmsencrypted.OpUnwrap)
	f()
	return s.kms.Count(kmsencrypted.OpWrap) - wraps, s.kms.Count(kmsencrypted.OpUnwrap) - unwraps
}

// sentLog has the statements that reached the database.
type sentLog struct {
	mu   sync.Mutex
	sent []string
}

func (l *sentLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = nil
}

// take returns what was sent since, and forgets it.
func (l *sentLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	sent := l.sent
	l.sent = nil
	return sent
}

func (l *sentLog) add(statement string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, statement)
}

// logged is a driver below that of the package.
type logged struct {
	*entsql.Driver
	log *sentLog
}

func (d *logged) Exec(ctx context.Context, query string, args, v any) error {
	d.log.add(query)
	return d.Driver.Exec(ctx, query, args, v)
}

func (d *logged) Query(ctx context.Context, query string, args, v any) error {
	d.log.add(query)
	return d.Driver.Query(ctx, query, args, v)
}

func (d *logged) BeginTx(ctx context.Context, o *sql.TxOptions) (dialect.Tx, error) {
	d.log.add("BEGIN")
	tx, err := d.Driver.BeginTx(ctx, o)
	return &loggedTx{tx, d.log}, err
}

func (d *logged) Tx(ctx context.Context) (dialect.Tx, error) {
	d.log.add("BEGIN")
	tx, err := d.Driver.Tx(ctx)
	return &loggedTx{tx, d.log}, err
}

type loggedTx struct {
	dialect.Tx
	log *sentLog
}

func (d *loggedTx) Exec(ctx context.Context, query string, args, v any) error {
	d.log.add(query)
	return d.Tx.Exec(ctx, query, args, v)
}

func (d *loggedTx) Query(ctx context.Context, query string, args, v any) error {
	d.log.add(query)
	return d.Tx.Query(ctx, query, args, v)
}

func (d *logged) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	d.log.add(query)
	return d.Driver.ExecContext(ctx, query, args...)
}

func (d *logged) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	d.log.add(query)
	return d.Driver.QueryContext(ctx, query, args...)
}

func (d *loggedTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	d.log.add(query)
	return d.Tx.(*entsql.Tx).ExecContext(ctx, query, args...)
}

func (d *loggedTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	d.log.add(query)
	return d.Tx.(*entsql.Tx).QueryContext(ctx, query, args...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks an error and that it holds no secret.
func wantError(t testing.TB, what string, err error, want ...error) {
	t.Helper()
	for _, target := range want {
		if !errors.Is(err, target) {
			t.Errorf("%s: %v, want %v", what, err, target)
		}
	}
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("%s: the error holds the secret", what)
	}
}

// wantRefused checks that a call is refused before a statement is sent.
func (s *store) wantRefused(t testing.TB, what string, call func() error, want error) {
	t.Helper()
	s.log.take()
	wantError(t, what, call(), want)
	for _, sent := range s.log.take() {
		if sent != "BEGIN" && !strings.Contains(sent, "nextval") {
			t.Errorf("%s: sent %s", what, sent)
		}
	}
}
