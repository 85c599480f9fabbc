package kmssqlx_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// Every text that is encrypted in these tests holds secret, and whatever is
// written to a database or said by an error must not.
const secret = "topsecret.example"

// server is a database under test.
type server struct {
	name    string
	driver  string // to sqlx
	opens   string // to database/sql, if it is another
	dialect field.Dialect
	// id defines a primary key that the database makes itself; otherID one that
	// it makes in a way that cannot be asked for before the row is there.
	id, otherID string
	open        func(testing.TB) (dsn string)
}

var (
	postgres = server{
		name: "Postgres", driver: "pgx", dialect: field.Postgres,
		id: "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", otherID: "bigint PRIMARY KEY DEFAULT nextval('other_ids')",
		open: dbserver.Postgres,
	}
	mariadb = server{
		name: "MariaDB", driver: "mysql", dialect: field.MySQL,
		id: "bigint AUTO_INCREMENT PRIMARY KEY", otherID: "bigint AUTO_INCREMENT PRIMARY KEY",
		open: dbserver.MariaDB,
	}
	// mysql is MySQL itself where there is one, mysqlLike what the suite runs on everywhere.
	realMySQL = mariadb.as("MySQL", "mysql", dbserver.MySQL)
	mysqlLike = mariadb.as("MySQL", mysqlish.Driver(), dbserver.MariaDB)

	sqliteFile = server{
		name: "SQLite", driver: "sqlite", dialect: field.SQLite,
		id: "INTEGER PRIMARY KEY", otherID: "INTEGER PRIMARY KEY",
		open: func(t testing.TB) string {
			return "file:" + t.TempDir() + "/test.db?_pragma=journal_mode(wal)&_pragma=synchronous(off)&_pragma=busy_timeout(20000)&_txlock=immediate"
		},
	}
)

// as is another server of the same kind.
func (s server) as(name, driver string, open func(testing.TB) string) server {
	s.name, s.opens, s.open = name, driver, open
	return s
}

// set is the server with a variable set in each session.
func (s server) set(variable, value string) server {
	open := s.open
	s.open = func(t testing.TB) string { return open(t) + "&" + variable + "=" + url.QueryEscape(value) }
	return s
}

// suite runs on every database, with a canary for the secret in between.
var suite = []struct {
	name string
	test func(*testing.T, *env)
}{
	{"InsertWithID", insertWithID},
	{"InsertWithoutID", insertWithoutID},
	{"InsertManyWithoutID", insertManyWithoutID},
	{"InsertInFewStatements", insertInFewStatements},
	{"InsertIDsThatCannotBeFetched", insertIDsThatCannotBeFetched},
	{"InsertUnboundID", insertUnboundID},
	{"InsertOwnContext", insertOwnContext},
	{"InsertReturnedID", insertReturnedID},
	{"InsertCompoundAndTextIDs", insertCompoundAndTextIDs},
	{"InsertAllOrNone", insertAllOrNone},
	{"InsertNamesTheRow", insertNamesTheRow},
	{"InsertMany", insertMany},
	{"InsertReturnedColumns", insertReturnedColumns},
	{"EmbeddedPointers", embeddedPointers},
	{"InsertReturnedColumnsOfSpelledIDs", insertReturnedColumnsOfSpelledIDs},
	{"IDsInAnotherSpelling", idsInAnotherSpelling},
	{"KeysReplacedInAnotherSpelling", keysReplacedInAnotherSpelling},
	{"IDsThatNothingDependsOn", idsThatNothingDependsOn},
	{"ContextsInAnotherSpelling", contextsInAnotherSpelling},
	{"ContextOfTheDatabase", contextOfTheDatabase},
	{"AssociatedDataInAnotherSpelling", associatedDataInAnotherSpelling},
	{"InsertManyRefused", insertManyRefused},
	{"RefusedAndReadInPart", refusedAndReadInPart},
	{"OddNames", oddNames},
	{"KeyOfBytes", keyOfBytes},
	{"InsertTwice", insertTwice},
	{"InsertCopy", insertCopy},
	{"GetAndSelect", getAndSelect},
	{"GetReplaces", getReplaces},
	{"SelectArguments", selectArguments},
	{"NamedQueries", namedQueries},
	{"SelectOneCallEach", selectOneCallEach},
	{"SelectDamaged", selectDamaged},
	{"SelectCancelled", selectCancelled},
	{"LookupHits", lookupHits},
	{"PartialRead", partialRead},
	{"UpsertOfRailsColumns", upsertOfRailsColumns},
	{"UpdateWritesWhatChanged", updateWritesWhatChanged},
	{"UpdateWithoutChange", updateWithoutChange},
	{"UpdateAfterRewrap", updateAfterRewrap},
	{"UpdateAfterRekey", updateAfterRekey},
	{"UpdateGone", updateGone},
	{"UpdateFailedIsRepeated", updateFailedIsRepeated},
	{"UpdateBoundTo", updateBoundTo},
	{"MigratingWrites", migratingWrites},
	{"MigratingGivesWay", migratingGivesWay},
	{"MigratingReadsBoth", migratingReadsBoth},
	{"MigratingOldSet", migratingOldSet},
	{"MigratingLazily", migratingLazily},
	{"MigratingLazilyFromEncrypted", migratingLazilyFromEncrypted},
	{"MigratingWritesBoth", migratingWritesBoth},
	{"MigratingReleasesOverlap", releasesOverlap},
	{"MigratingResendKeepsOld", resendKeepsOld},
	{"MigrateTable", migrateTable},
	{"MigrateMasterKey", migrateMasterKey},
	{"FirstKeyRace", firstKeyRace},
	{"RecordSeal", recordSeal},
	{"SeveralKeys", severalKeys},
	{"RotateOne", rotateOne},
	{"Transactions", transactions},
	{"UpdateInOldSnapshot", updateInOldSnapshot},
	{"Rollback", rollback},
	{"KeyKeptByAnOldRelease", keyKeptByAnOldRelease},
	{"EncryptOnlyReplaces", encryptOnlyReplaces},
	{"RekeyKnowsEveryColumn", rekeyKnowsEveryColumn},
	{"UnwrittenKeyLosesNothing", unwrittenKeyLosesNothing},
	{"MoveUnderOneKey", moveUnderOneKey},
	{"MoveToAnotherKey", moveToAnotherKey},
	{"MoveBesideOthers", moveBesideOthers},
	{"MoveUndeclared", moveUndeclared},
	{"UpdateBesideTriggers", updateBesideTriggers},
	{"TenantsAreTexts", tenantsAreTexts},
	{"RetryUpdate", retryUpdate},
	{"RetryFirstKey", retryFirstKey},
	{"RetryRekey", retryRekey},
	{"RetryInsert", retryInsert},
	{"ResendRevertsNothing", resendRevertsNothing},
	{"SavepointKeepsTheRest", savepointKeepsTheRest},
	{"Deadlock", deadlock},
	{"ConnectionLost", connectionLost},
	{"Handles", handles},
	{"ManualWritesAreRefused", manualWritesAreRefused},
	{"OtherStructs", otherStructs},
	{"ErrorsHoldNoArguments", errorsHoldNoArguments},
	{"NothingIsCut", nothingIsCut},
	{"Writers", writers},
}

func TestSuitePostgres(t *testing.T) { t.Parallel(); runSuite(t, postgres) }
func TestSuiteMariaDB(t *testing.T)  { t.Parallel(); runSuite(t, mariadb) }
func TestSuiteMySQL(t *testing.T)    { t.Parallel(); runSuite(t, realMySQL) }
func TestSuiteMySQLish(t *testing.T) { t.Parallel(); runSuite(t, mysqlLike) }

// On a node of a cluster the ids of neighbours are not neighbours.
func TestSuiteMariaDBCluster(t *testing.T) {
	t.Parallel()
	runSuite(t, mariadb.set("auto_increment_increment", "7"))
}
func TestSuiteMySQLCluster(t *testing.T) {
	t.Parallel()
	runSuite(t, realMySQL.set("auto_increment_increment", "7"))
}
func TestSuiteMySQLishCluster(t *testing.T) {
	t.Parallel()
	runSuite(t, mysqlLike.set("auto_increment_increment", "7"))
}

func TestSuiteSQLite(t *testing.T) { t.Parallel(); runSuite(t, sqliteFile) }

// Behind PgBouncer in transaction mode, in the modes that docs/database.md names.
func TestSuitePgBouncer(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"exec", "simple_protocol", "cache_describe"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			runSuite(t, postgres.as("Postgres", "pgx", dbserver.PgBouncer).set("default_query_exec_mode", mode))
		})
	}
}

func runSuite(t *testing.T, s server) {
	db := sqlx.NewDb(kmstest.Canary(t, cmp.Or(s.opens, s.driver), s.open(t), secret), s.driver)
	db.SetMaxOpenConns(16)
	if s.name == "Postgres" {
		db.MustExec("CREATE SEQUENCE other_ids")
	}
	for i, c := range suite {
		t.Run(c.name, func(t *testing.T) {
			c.test(t, &env{server: s, db: db, table: fmt.Sprintf("customers%d", i)})
		})
	}
}

// env is what a test of the suite works with.
type env struct {
	server
	db    *sqlx.DB
	table string // of this test alone
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

const plainColumns = "name varchar(200) NOT NULL UNIQUE, status varchar(20), shout varchar(200) GENERATED ALWAYS AS (upper(name)) STORED"

func email(n int) string { return fmt.Sprintf("customer%d@%s", n, secret) }

// calls is how many calls to a key service f makes.
func calls(k *kmstest.Service, f func()) (wraps, unwraps int) {
	wraps, unwraps = k.Count(kmsencrypted.OpWrap), k.Count(kmsencrypted.OpUnwrap)
	f()
	return k.Count(kmsencrypted.OpWrap) - wraps, k.Count(kmsencrypted.OpUnwrap) - unwraps
}

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
	createTable(t, e, m, "id "+e.id+", "+plainColumns)
	return store{e, m, k}
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
	definitions, err := m.DDL(e.dialect)
	must(t, err)
	check, err := m.CheckConstraint(e.dialect)
	must(t, err)
	parts := slices.Concat([]string{columns}, definitions, constraints, []string{check})
	_, err = e.db.ExecContext(t.Context(), "CREATE TABLE "+e.table+" ("+strings.Join(parts, ", ")+")")
	must(t, err)
}

// insert puts n customers into the table.
func (s store) insert(t testing.TB, n int) []customer {
	t.Helper()
	all := make([]customer, n)
	for i := range all {
		all[i] = customer{Name: fmt.Sprintf("name%d", i), Email: field.New(email(i)), Born: field.New(time.Unix(0, 0).UTC().AddDate(0, 0, i))}
	}
	must(t, kmssqlx.Insert(t.Context(), s.db, s.Model, field.Pointers(all)...))
	return all
}

// get reads one customer by id.
func (s store) get(t testing.TB, id int64) (c customer) {
	t.Helper()
	must(t, kmssqlx.Get(t.Context(), s.db, s.Model, &c, "SELECT * FROM "+s.table+" WHERE id = ?", id))
	return c
}

func (s store) count(t testing.TB) (n int) {
	t.Helper()
	must(t, s.db.Get(&n, "SELECT count(*) FROM "+s.table))
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
	if strings.Contains(err.Error(), secret) {
		t.Errorf("%s: the error holds the secret", what)
	}
}

// recorder keeps the statements sent. It is used like a transaction.
type recorder struct {
	kmssqlx.Ext
	driver string
	sent   []string
}

func (r *recorder) DriverName() string { return r.driver }

func (r *recorder) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	r.sent = append(r.sent, query)
	return r.Ext.ExecContext(ctx, query, args...)
}

func (r *recorder) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	r.sent = append(r.sent, query)
	return r.Ext.QueryContext(ctx, query, args...)
}

func (r *recorder) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	r.sent = append(r.sent, query)
	return r.Ext.QueryxContext(ctx, query, args...)
}

func (r *recorder) QueryRowxContext(ctx context.Context, query string, args ...any) *sqlx.Row {
	r.sent = append(r.sent, query)
	return r.Ext.QueryRowxContext(ctx, query, args...)
}

// dbRecorder is a recorder outside a transaction. What is sent in one of its own
// it does not see.
type dbRecorder struct {
	recorder
	db *sqlx.DB
}

func (e *env) recorder() *dbRecorder {
	return &dbRecorder{recorder{Ext: e.db, driver: e.driver}, e.db}
}

func (r *dbRecorder) BeginTxx(ctx context.Context, opts *sql.TxOptions) (*sqlx.Tx, error) {
	r.sent = append(r.sent, "BEGIN")
	return r.db.BeginTxx(ctx, opts)
}
