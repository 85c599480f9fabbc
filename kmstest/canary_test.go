package kmstest_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgtype"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// recorder notes failures instead of failing.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

// take returns the findings since the last call.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	failures := r.failures
	r.failures = nil
	return failures
}

func sqliteCanary(t testing.TB, secrets ...any) *sql.DB {
	db := kmstest.Canary(t, "sqlite", filepath.Join(t.TempDir(), "test.sqlite3"), secrets...)
	exec(t, db, "CREATE TABLE people (id integer PRIMARY KEY, name text, note blob)")
	return db
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func exec(t testing.TB, db execer, query string, args ...any) sql.Result {
	t.Helper()
	result, err := db.ExecContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestCanaryFindsSecrets(t *testing.T) {
	t.Parallel()
	const email = "Zoë.<o'hara>@example.org"
	born := time.Date(1990, 5, 1, 0, 0, 0, 0, time.UTC)
	seen := time.Date(2026, 3, 1, 23, 30, 15, 123456789, time.FixedZone("", 2*60*60))
	inJSON, err := json.Marshal(map[string]string{"to": email})
	if err != nil {
		t.Fatal(err)
	}
	type name string
	for _, test := range []struct {
		name   string
		secret any
		value  any
		found  bool
	}{
		{"text", email, email, true},
		{"bytes", email, []byte(email), true},
		{"secret in bytes", []byte(email), email, true},
		{"named string", name(email), email, true},
		{"inside", email, "to: " + email + "; cc", true},
		{"inside bytes that are no text", email, "\xff\x00" + email + "\xfe", true},
		{"another case", email, strings.ReplaceAll(strings.ToUpper(email), "Ë", "ë"), true},
		{"JSON", email, string(inJSON), true},
		{"valuer", email, sql.NullString{String: email, Valid: true}, true},
		{"pointer", email, new(email), true},
		{"hex", email, hex.EncodeToString([]byte(email)), true},
		{"upper-case hex inside", email, `\x00` + strings.ToUpper(hex.EncodeToString([]byte(email))), true},
		{"base64", email, base64.StdEncoding.EncodeToString([]byte(email)), true},
		{"base64 with line breaks", email, "dG86IHh4eHh4eHh4eHh4eHh4eHh4eHh4\r\n" + lines(base64.StdEncoding.EncodeToString([]byte(email)), 10), true},
		{"URL base64 of a larger value", "??>>??", base64.URLEncoding.EncodeToString([]byte("a??>>??b")), true},
		{"another text", email, "ada@example.org", false},
		{"nil", email, nil, false},
		{"typed nil", email, (*string)(nil), false},

		{"short text", "Ada", "Ada", true},
		{"short text as a word", "Ada", `{"name":"ada"}`, true},
		{"short text in another word", "Ada", "Adamant", false},
		{"short text in base64", "Ada", "x/Ada+A==", false},
		{"short text in bytes that are no text", "Ada", []byte("\xff Ada \xff"), false},
		{"short text as base64", "Ada", "QWRh", true},
		{"short text as unpadded base64", "Adam", "QWRhbQ", true},
		{"short text as hex", "Ada", "416461", true},

		{"number", 123456, 123456, true},
		{"number of another type", uint16(12345), int64(12345), true},
		{"number as text", int64(-123456), "-123456", true},
		{"number without its sign", -123456, 123456, false},
		{"number in JSON", 1234, `{"salary":1234}`, true},
		{"number in a longer one", 123456, 91234567, false},
		{"number in base64 of JSON", 123456, base64.StdEncoding.EncodeToString([]byte(`{"a":123456}`)), true},
		{"number as 8 bytes", 7, []byte{0, 0, 0, 0, 0, 0, 0, 7}, true},
		{"float", 1234.5, 1234.5, true},
		{"float32", float32(0.1), float32(0.1), true},
		{"float as text", 1234.5, "1234.5", true},

		{"time", seen, seen, true},
		{"time in UTC", seen, seen.UTC(), true},
		{"time in a third zone", seen, seen.In(time.FixedZone("", -5*60*60)), true},
		{"time without fraction", seen, seen.Truncate(time.Second), true},
		{"time as text", seen, "2026-03-01 23:30:15.123+02:00", true},
		{"time as a Unix time", seen, seen.UnixMilli(), true},
		{"another time", seen, seen.Add(time.Second), false},
		{"date", born, "born 1990-05-01", true},
		{"date as a time", born, born, true},
		{"another date", born, "1990-05-02", false},
		{"the beginning of Unix time", time.Unix(0, 0), 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{TB: t}
			db := sqliteCanary(r, test.secret)
			exec(t, db, "INSERT INTO people (note) VALUES (?)", test.value)
			if found := len(r.take()) == 1; found != test.found {
				t.Errorf("Canary(%v) on argument %v: found = %v, want %v", test.secret, test.value, found, test.found)
			}
		})
	}
}

// lines breaks text after every n characters.
func lines(text string, n int) string {
	var b strings.Builder
	for i, r := range text {
		if i > 0 && i%n == 0 {
			b.WriteByte('\n')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Any base64 or hex of any larger value shows the secret, wherever it begins.
func TestCanaryFindsEncodingsAtAnyOffset(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	const secret = "s3cret"
	db := sqliteCanary(r, secret)
	random := rand.New(rand.NewPCG(1, 2))
	for before := range 12 {
		value := append(randomBytes(random, before), secret...)
		value = append(value, randomBytes(random, random.IntN(9))...)
		for _, encoded := range []string{
			base64.StdEncoding.EncodeToString(value),
			base64.RawURLEncoding.EncodeToString(value),
			hex.EncodeToString(value),
		} {
			exec(t, db, "INSERT INTO people (name) VALUES (?)", encoded)
			if failures := r.take(); len(failures) != 1 {
				t.Errorf("Canary on %q: %d failures, want 1", encoded, len(failures))
			}
		}
	}
}

func TestCanaryIgnoresCiphertexts(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	db := sqliteCanary(r, "ada@example.org", "Adam", "Bo", 42, 123456, 19.5, time.Date(1990, 5, 1, 0, 0, 0, 0, time.UTC))
	random := rand.New(rand.NewPCG(3, 4))
	insert, err := db.Prepare("INSERT INTO people (name, note) VALUES (?, ?)")
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		value := randomBytes(random, 150)
		if _, err := insert.Exec("v2:"+base64.StdEncoding.EncodeToString(value), value); err != nil {
			t.Fatal(err)
		}
	}
	if failures := r.take(); len(failures) != 0 {
		t.Errorf("Canary on random values: %q, want no failure", failures)
	}
}

func randomBytes(random *rand.Rand, n int) []byte {
	bytes := make([]byte, n)
	for i := range bytes {
		bytes[i] = byte(random.Uint32())
	}
	return bytes
}

func TestCanaryFailureText(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	db := sqliteCanary(r, "unused", "O'Hara-Smith", 123456)
	const prefix = "kmstest.Canary: plaintext in the database: secret "
	for _, test := range []struct {
		query string
		args  []any
		want  []string
	}{
		{"INSERT INTO people (id, name)\n\tVALUES (?, ?)", []any{1, "O'Hara-Smith"},
			[]string{prefix + "1 is in argument 2 of INSERT INTO people (id, name) VALUES (?, ?) (from "}},
		{"UPDATE people SET name = 'Ms. O''Hara-Smith' WHERE id = 17 -- O'Hara-Smith", nil,
			[]string{prefix + "1 is in the text of UPDATE people SET name = ? WHERE id = ? ? (from "}},
		{"UPDATE people SET note = x'4F27486172612D536D697468', name = $1", []any{"123456"},
			[]string{
				prefix + "1 is in the text of UPDATE people SET note = x?, name = ? (from ",
				prefix + "2 is in argument 1 of UPDATE people SET note = x?, name = ? (from ",
			}},
		{"SELECT \"id\" AS \"O'Hara-Smith\" FROM `people`", nil,
			[]string{prefix + "1 is in the text of SELECT \"id\" AS ? FROM `people` (from "}},
		{`SELECT id AS "123456" FROM people`, nil,
			[]string{prefix + "2 is in the text of a statement (from "}},
	} {
		exec(t, db, test.query, test.args...)
		failures := r.take()
		if len(failures) != len(test.want) {
			t.Errorf("%s: failures %q, want %q", test.query, failures, test.want)
			continue
		}
		for i, failure := range failures {
			if !strings.HasPrefix(failure, test.want[i]+"canary_test.go:") {
				t.Errorf("%s: failure %q, want %q and where", test.query, failure, test.want[i])
			}
			if strings.Contains(failure, "Hara") || strings.Contains(failure, "123456") {
				t.Errorf("failure %q shows the secret", failure)
			}
		}
	}
}

// The rest of database/sql works as without the canary, and every way to send
// an argument is watched.
func TestCanaryDatabaseSQL(t *testing.T) {
	t.Parallel()
	const secret = "ada@example.org"
	r := &recorder{TB: t}
	db := sqliteCanary(r, secret)
	ctx := t.Context()
	wantFailures := func(step string, want int) {
		t.Helper()
		if failures := r.take(); len(failures) != want {
			t.Errorf("%s: failures %q, want %d", step, failures, want)
		}
	}

	if err := db.PingContext(ctx); err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := exec(t, tx, "INSERT INTO people (id, name) VALUES (7, :name)", sql.Named("name", "kept")).LastInsertId(); id != 7 || err != nil {
		t.Errorf("LastInsertId() = %d, %v, want 7", id, err)
	}
	wantFailures("insert", 0)
	exec(t, tx, "SAVEPOINT one")
	exec(t, tx, "UPDATE people SET name = ?", secret)
	wantFailures("update in a savepoint", 1)
	exec(t, tx, "ROLLBACK TO one")
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}

	insert, err := db.PrepareContext(ctx, "INSERT INTO people (name) VALUES (?)")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := insert.Exec(secret); err != nil {
		t.Fatal(err)
	}
	wantFailures("prepared insert", 1)
	find, err := db.Prepare("SELECT id, name FROM people WHERE name = ?")
	if err != nil {
		t.Fatal(err)
	}
	var id int64
	var name string
	if err := find.QueryRow(secret).Scan(&id, &name); id != 8 || name != secret || err != nil {
		t.Errorf("QueryRow() = %d, %q, %v, want 8, %q", id, name, err, secret)
	}
	wantFailures("prepared query", 1)
	if err := db.QueryRow("SELECT name FROM people WHERE name = ?", secret).Scan(&name); err != nil {
		t.Error(err)
	}
	wantFailures("query", 1)
	if _, err := db.Prepare("SELECT '" + secret + "'"); err != nil {
		t.Error(err)
	}
	wantFailures("prepare", 1)

	rows, err := db.Query("SELECT id, name, note FROM people WHERE id = 7")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil || len(types) != 3 || types[1].DatabaseTypeName() != "TEXT" {
		t.Errorf("ColumnTypes() = %v, %v, want those of three columns", types, err)
	}

	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := db.ExecContext(canceled, "DELETE FROM people"); !errors.Is(err, context.Canceled) {
		t.Errorf("ExecContext(canceled) = %v, want context.Canceled", err)
	}
	if _, err := db.Exec("no SQL"); err == nil {
		t.Error("Exec(no SQL) = nil, want an error")
	}
	plain, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if got, want := db.Driver(), plain.Driver(); got != want {
		t.Errorf("Driver() = %T, want %T", got, want)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func TestCanaryConcurrent(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	db := kmstest.Canary(r, "sqlite", ":memory:", "ada@example.org")
	var writers sync.WaitGroup
	for range 20 {
		writers.Go(func() {
			if _, err := db.Exec("SELECT ?", "ada@example.org"); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	if got := len(r.take()); got != 20 {
		t.Errorf("%d failures, want 20", got)
	}
}

func TestCanaryRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		driver  string
		secrets []any
		want    string
	}{
		{"sqlite", nil, "kmstest.Canary: no secret to look for"},
		{"sqlite", []any{"ada", ""}, "kmstest.Canary: secret 1: empty text occurs everywhere"},
		{"sqlite", []any{true}, "kmstest.Canary: secret 0: bool is neither text nor a number nor a time"},
		{"sqlite", []any{nil}, "kmstest.Canary: secret 0: <nil> is neither text nor a number nor a time"},
		{"no such driver", []any{"ada"}, `kmstest.Canary: sql: unknown driver "no such driver" (forgotten import?)`},
	} {
		r := &recorder{TB: t}
		var done sync.WaitGroup
		done.Go(func() { kmstest.Canary(r, test.driver, ":memory:", test.secrets...) })
		done.Wait()
		if got := r.take(); !reflect.DeepEqual(got, []string{test.want}) {
			t.Errorf("Canary(%v) failed with %q, want %q", test.secrets, got, test.want)
		}
	}
}

// pgx takes Go values as they are.
func TestCanaryPostgres(t *testing.T) {
	t.Parallel()
	const secret = "ada@example.org"
	r := &recorder{TB: t}
	db := kmstest.Canary(r, "pgx", dbserver.Postgres(t), secret, 123456)
	exec(t, db, "CREATE TABLE people (id bigserial PRIMARY KEY, name text, tags text[], numbers bigint[], note jsonb)")
	for _, test := range []struct {
		column string
		value  any
		found  bool
	}{
		{"name", pgtype.Text{String: secret, Valid: true}, true},
		{"name", pgtype.Text{}, false},
		{"tags", []string{"a", secret}, true},
		{"tags", []string{"a"}, false},
		{"numbers", []int64{1, 123456}, true},
		{"numbers", []int64{1, 1234567}, false},
		{"note", map[string]any{"to": []string{secret}}, true},
		{"note", struct{ To *string }{new(secret)}, true},
		{"note", json.RawMessage(`{"to":"nobody"}`), false},
	} {
		exec(t, db, "INSERT INTO people ("+test.column+") VALUES ($1)", test.value)
		if found := len(r.take()) == 1; found != test.found {
			t.Errorf("%s = %v: found = %v, want %v", test.column, test.value, found, test.found)
		}
	}
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var isolation, readOnly string
	if err := tx.QueryRow("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')").Scan(&isolation, &readOnly); err != nil {
		t.Fatal(err)
	}
	if isolation != "serializable" || readOnly != "on" {
		t.Errorf("transaction is %s, read only %s, want serializable, on", isolation, readOnly)
	}
}

// The MySQL driver asks for a prepared statement by ErrSkip: one leak is still
// one failure.
func TestCanaryMariaDB(t *testing.T) {
	t.Parallel()
	const secret = "ada@example.org"
	r := &recorder{TB: t}
	db := kmstest.Canary(r, "mysql", dbserver.MariaDB(t), secret, uint64(1)<<63)
	exec(t, db, "CREATE TABLE people (id serial PRIMARY KEY, name varchar(100), n bigint unsigned)")
	if id, err := exec(t, db, "INSERT INTO people (name) VALUES (?)", secret).LastInsertId(); id != 1 || err != nil {
		t.Errorf("LastInsertId() = %d, %v, want 1", id, err)
	}
	exec(t, db, "INSERT INTO people (name) VALUES ('"+secret+"')")
	exec(t, db, "INSERT INTO people (n) VALUES (?)", uint64(1)<<63)
	var name string
	if err := db.QueryRow("SELECT name FROM people WHERE name = ?", secret).Scan(&name); name != secret || err != nil {
		t.Errorf("QueryRow() = %q, %v, want %q", name, err, secret)
	}
	if failures := r.take(); len(failures) != 4 {
		t.Errorf("failures %q, want 4", failures)
	}
}

// A driver with nothing but the methods that every driver must have.
func TestCanaryMinimalDriver(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("minimal-%p", t) // another one for each run of -count
	sql.Register(name, minimalDriver{})
	r := &recorder{TB: t}
	db := kmstest.Canary(r, name, "", "ada@example.org")
	plain, err := sql.Open(name, "")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	type temperature float64
	for _, query := range []string{"two ? ?", "refused ? ?"} {
		for _, args := range [][]any{
			{"ada@example.org", 1},
			{sql.NullInt64{}, temperature(1.5)},
			{"one argument"},
			{struct{}{}, 1},
			{sql.Named("a", 1), 2},
		} {
			_, gotErr := db.Exec(query, args...)
			_, wantErr := plain.Exec(query, args...)
			if (gotErr == nil) != (wantErr == nil) {
				t.Errorf("Exec(%q, %v) = %v, want %v", query, args, gotErr, wantErr)
			}
			rows, gotErr := db.Query(query, args...)
			if gotErr == nil {
				rows.Close()
			}
			if rows, wantErr = plain.Query(query, args...); wantErr == nil {
				rows.Close()
			}
			if (gotErr == nil) != (wantErr == nil) {
				t.Errorf("Query(%q, %v) = %v, want %v", query, args, gotErr, wantErr)
			}
		}
	}
	if failures := r.take(); len(failures) != 4 {
		t.Errorf("failures %q, want 4: two of Exec, two of Query", failures)
	}
	if err := db.Ping(); err != nil {
		t.Error(err)
	}
	for _, options := range []*sql.TxOptions{nil, {ReadOnly: true}, {Isolation: sql.LevelSerializable}} {
		tx, gotErr := db.BeginTx(t.Context(), options)
		if gotErr == nil {
			gotErr = tx.Rollback()
		}
		if tx, err = plain.BeginTx(t.Context(), options); err == nil {
			err = tx.Rollback()
		}
		if (gotErr == nil) != (err == nil) {
			t.Errorf("BeginTx(%+v) = %v, want %v", options, gotErr, err)
		}
	}
}

type (
	minimalDriver struct{}
	minimalConn   struct{}
	minimalStmt   struct{ query string }
	minimalTx     struct{}
	minimalRows   struct{}
)

func (minimalDriver) Open(string) (driver.Conn, error) { return minimalConn{}, nil }

func (minimalConn) Prepare(query string) (driver.Stmt, error) { return minimalStmt{query}, nil }
func (minimalConn) Close() error                              { return nil }
func (minimalConn) Begin() (driver.Tx, error)                 { return minimalTx{}, nil }

func (minimalStmt) Close() error    { return nil }
func (s minimalStmt) NumInput() int { return strings.Count(s.query, "?") }

func (s minimalStmt) Exec(args []driver.Value) (driver.Result, error) {
	_, err := s.Query(args)
	return driver.RowsAffected(len(args)), err
}

func (s minimalStmt) Query([]driver.Value) (driver.Rows, error) {
	if strings.HasPrefix(s.query, "refused") {
		return nil, errors.New("refused")
	}
	return minimalRows{}, nil
}

func (minimalTx) Commit() error   { return nil }
func (minimalTx) Rollback() error { return nil }

func (minimalRows) Columns() []string         { return nil }
func (minimalRows) Close() error              { return nil }
func (minimalRows) Next([]driver.Value) error { return errors.New("no row") }
