package kmspgx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // for dbserver

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
)

// Every text that is encrypted in these tests holds secret, and whatever is sent to
// the server or said by an error must not.
const secret = "topsecret.example"

var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement,
	pgx.QueryExecModeCacheDescribe,
	pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec,
	pgx.QueryExecModeSimpleProtocol,
}

// suite runs in every mode of pgx, and behind pgbouncer in those that work there.
var suite = []struct {
	name string
	test func(*testing.T, *env)
}{
	{"InsertAndCollect", insertAndCollect},
	{"InsertAllOrNone", insertAllOrNone},
	{"InsertReturnedIDs", insertReturnedIDs},
	{"InsertUnboundID", insertUnboundID},
	{"InsertMany", insertMany},
	{"InsertReturnedColumns", insertReturnedColumns},
	{"CollectNothing", collectNothing},
	{"CollectDamaged", collectDamaged},
	{"PartialRead", partialRead},
	{"Lookups", lookups},
	{"UpsertOfRailsColumns", upsertOfRailsColumns},
	{"LookupOfBytes", lookupOfBytes},
	{"UpdateWritesWhatChanged", updateWritesWhatChanged},
	{"UpdateConflicts", updateConflicts},
	{"UpdateGone", updateGone},
	{"UpdateBoundTo", updateBoundTo},
	{"RotateOne", rotateOne},
	{"RecordSeal", recordSeal},
	{"SeveralKeys", severalKeys},
	{"EncryptOnly", encryptOnly},
	{"Tenants", tenants},
	{"InPlace", inPlace},
	{"IDsInAnotherSpelling", idsInAnotherSpelling},
	{"ContextsInAnotherSpelling", contextsInAnotherSpelling},
	{"CopyRows", copyRows},
	{"CopyNeedsIDs", copyNeedsIDs},
	{"CopyNamesTheRow", copyNamesTheRow},
	{"ListedTwice", listedTwice},
	{"BatchOfModels", batchOfModels},
	{"BatchAllOrNone", batchAllOrNone},
	{"BatchOfUpdates", batchOfUpdates},
	{"BatchMisused", batchMisused},
	{"Bulk", bulk},
	{"Rollback", rollback},
	{"SavepointKeepsTheRest", savepointKeepsTheRest},
	{"Handles", handles},
	{"Writers", writers},
	{"Unsealed", unsealed},
	{"ErrorsHoldNoValues", errorsHoldNoValues},
	{"NilArguments", nilArguments},
}

func TestSuitePostgres(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			runSuite(t, dbserver.Postgres(t), mode)
		})
	}
}

func runSuite(t *testing.T, dsn string, mode pgx.QueryExecMode) {
	pool := connect(t, dsn, mode)
	for _, statement := range []string{"CREATE SEQUENCE other_ids", "CREATE EXTENSION citext"} {
		_, err := pool.Exec(t.Context(), statement)
		must(t, err)
	}
	for i, c := range suite {
		t.Run(c.name, func(t *testing.T) { c.test(t, &env{pool, fmt.Sprint("customers", i)}) })
	}
}

// env is what a test of the suite works with.
type env struct {
	db    *pgxpool.Pool
	table string // of this test alone
}

// connect opens a pool whose connections fail the test when the secret is sent.
func connect(t testing.TB, dsn string, mode pgx.QueryExecMode) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	must(t, err)
	config.MaxConns = 16
	config.ConnConfig.DefaultQueryExecMode = mode
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &canary{Conn: conn, t: t}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// canary looks for the secret in all that is sent: COPY has no arguments that a
// tracer could see.
type canary struct {
	net.Conn
	t    testing.TB
	last []byte
}

func (c *canary) Write(sent []byte) (int, error) {
	c.last = append(c.last, sent...)
	if bytes.Contains(c.last, []byte(secret)) {
		c.t.Error("plaintext is sent to the server")
	}
	c.last = slices.Clone(c.last[max(0, len(c.last)-len(secret)+1):])
	return c.Conn.Write(sent)
}

// customer is the record of most tests.
type customer struct {
	ID         int64               `db:"id"`
	Name       string              `db:"name"`
	Status     *string             `db:"status"`
	Shout      string              `db:"shout,readonly"`
	Key        field.Key           `db:"encrypted_kms_key"`
	Email      field.Of[string]    `db:"email_ciphertext"`
	Phone      field.Of[*string]   `db:"phone_ciphertext"`
	Born       field.Of[time.Time] `db:"born_ciphertext" kms:"type=date,binary"`
	EmailIndex field.Index         `db:"email_bidx" kms:"of=Email,expression=lower,algorithm=hmac_sha256"`
}

const (
	identity     = "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
	plainColumns = "name varchar(200) NOT NULL UNIQUE, status varchar(20), shout varchar(200) GENERATED ALWAYS AS (upper(name)) STORED"
)

func email(n int) string { return fmt.Sprintf("customer%d@%s", n, secret) }

// store is a table of customers and a model of it.
type store struct {
	*env
	*field.Model[customer]
	kms *kmstest.Service
}

// customers makes the table of a test. version may change the recipe.
func (e *env) customers(t testing.TB, version ...func(*kmsencrypted.Version)) store {
	t.Helper()
	k := kmstest.NewService(kmstest.Memory())
	v := kmsencrypted.Version{Provider: k.Provider()}
	for _, change := range version {
		change(&v)
	}
	m := model[customer](t, e, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: v}})
	createTable(t, e, m, identity+", "+plainColumns)
	return store{e, m, k}
}

// oneKey is a recipe with a key in memory.
func oneKey() kmsencrypted.Config {
	return kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}}}
}

// model is a model of the test's table.
func model[R any](t testing.TB, e *env, c kmsencrypted.Config) *field.Model[R] {
	t.Helper()
	box, err := c.Box()
	must(t, err)
	indexKey, err := blindindex.NewMasterKey([]byte(strings.Repeat("k", blindindex.KeySize)))
	must(t, err)
	m, err := field.NewModel[R](box, field.Config{Table: e.table, IndexKey: indexKey})
	must(t, err)
	return m
}

// createTable makes the table of a test, with the constraint that refuses plaintext.
func createTable[R any](t testing.TB, e *env, m *field.Model[R], columns string, constraints ...string) {
	t.Helper()
	definitions, err := m.DDL(field.Postgres)
	must(t, err)
	check, err := m.CheckConstraint(field.Postgres)
	must(t, err)
	parts := slices.Concat([]string{columns}, definitions, constraints, []string{check})
	e.exec(t, "CREATE TABLE "+e.table+" ("+strings.Join(parts, ", ")+")")
}

func (e *env) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	_, err := e.db.Exec(t.Context(), statement, args...)
	must(t, err)
}

// insert puts n customers into the table.
func (s store) insert(t testing.TB, n int) []customer {
	t.Helper()
	all := newCustomers(n)
	must(t, kmspgx.Insert(t.Context(), s.db, s.Model, field.Pointers(all)...))
	return all
}

func newCustomers(n int) []customer {
	all := make([]customer, n)
	for i := range all {
		all[i] = customer{Name: fmt.Sprint("name", i), Email: field.New(email(i)), Born: field.New(time.Unix(0, 0).UTC().AddDate(0, 0, i))}
	}
	return all
}

// collect reads records of the test's table.
func collect[R any](t testing.TB, e *env, m *field.Model[R], where string, args ...any) []R {
	t.Helper()
	rows, _ := kmspgx.Query(t.Context(), e.db, "SELECT * FROM "+e.table+" "+where, args...)
	list, err := kmspgx.CollectRows(t.Context(), rows, m)
	must(t, err)
	return list
}

// one reads the record with an id.
func one[R any](t testing.TB, e *env, m *field.Model[R], id any) R {
	t.Helper()
	rows, _ := kmspgx.Query(t.Context(), e.db, "SELECT * FROM "+e.table+" WHERE id = $1", id)
	row, err := kmspgx.CollectOneRow(t.Context(), rows, m)
	must(t, err)
	return row
}

func (s store) get(t testing.TB, id int64) customer { t.Helper(); return one(t, s.env, s.Model, id) }

func (e *env) count(t testing.TB) (n int) {
	t.Helper()
	must(t, e.db.QueryRow(t.Context(), "SELECT count(*) FROM "+e.table).Scan(&n))
	return n
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
	if text := fmt.Sprintf("%v %+v %#v", err, err, err.Error()); strings.Contains(text, secret) {
		t.Errorf("%s: the error holds the secret", what)
	}
}
