package field_test

import (
	"database/sql"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

type walled struct {
	ID     int64             `db:"id"`
	Key    field.Key         `db:"encrypted_kms_key"`
	Text   field.Of[string]  `db:"text_ciphertext"`
	Bytes  field.Of[[]byte]  `db:"bytes_ciphertext" kms:"binary"`
	Padded field.Of[*string] `db:"padded_ciphertext" kms:"padding=64"`
	Index  field.Index       `db:"text_bidx" kms:"of=Text,algorithm=hmac_sha256"`
}

func TestConstraintSQLite(t *testing.T) {
	t.Parallel()
	testConstraint(t, field.SQLite, "sqlite", ":memory:")
}

func TestConstraintPostgres(t *testing.T) {
	t.Parallel()
	testConstraint(t, field.Postgres, "pgx", dbserver.Postgres(t))
}

func TestConstraintMariaDB(t *testing.T) {
	t.Parallel()
	testConstraint(t, field.MySQL, "mysql", dbserver.MariaDB(t))
}

// The database takes what the model writes and refuses everything else.
func testConstraint(t *testing.T, dialect field.Dialect, driver, dsn string) {
	m := newModel[walled](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "walled", IndexKey: indexKey})
	db, err := sql.Open(driver, dsn)
	must(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	columns, err := m.DDL(dialect)
	must(t, err)
	constraint, err := m.CheckConstraint(dialect)
	must(t, err)
	_, err = db.ExecContext(t.Context(), "CREATE TABLE walled (id bigint PRIMARY KEY, "+strings.Join(append(columns, constraint), ", ")+")")
	must(t, err)
	placeholders := "(?, ?, ?, ?, ?, ?)"
	if dialect == field.Postgres {
		placeholders = "($1, $2, $3, $4, $5, $6)"
	}
	insert := func(values ...any) error {
		_, err := db.ExecContext(t.Context(), "INSERT INTO walled (id, encrypted_kms_key, text_ciphertext, bytes_ciphertext, padded_ciphertext, text_bidx) VALUES "+placeholders, values...)
		return err
	}
	for id := range int64(20) { // random bytes: many shapes of ciphertext
		r := walled{ID: id + 1, Text: field.New(""), Bytes: field.New([]byte{}), Padded: field.New(new("x"))}
		must(t, m.Seal(t.Context(), &r))
		must(t, insert(r.ID, r.Key, r.Text, r.Bytes, r.Padded, r.Index))
	}
	must(t, insert(100, nil, nil, nil, nil, nil))
	good := walled{ID: 101, Text: field.New("a"), Bytes: field.New([]byte("b"))}
	must(t, m.Seal(t.Context(), &good))
	key, text, bytes := column(t, good.Key), column(t, good.Text), column(t, good.Bytes)
	long := walled{ID: 102, Text: field.New(strings.Repeat("a", 200))}
	must(t, m.Seal(t.Context(), &long))
	cut := column(t, long.Text).(string)[:255] // as a varchar of a server that is not strict does
	for name, values := range map[string][]any{
		"plaintext":                 {102, key, "ada@example.org", bytes, nil, nil},
		"empty text":                {102, key, "", bytes, nil, nil},
		"long plaintext":            {102, key, "what " + strings.Repeat("a long text that is no base64 ", 4), bytes, nil, nil},
		"truncated":                 {102, key, text.(string)[:40], bytes, nil, nil},
		"cut":                       {102, key, cut, bytes, nil, nil},
		"plaintext in binary":       {102, key, text, []byte("plain bytes that are long enough for a ciphertext"), nil, nil},
		"plaintext in key":          {102, "key", text, bytes, nil, nil},
		"another column is damaged": {102, key, text, bytes, "x", nil},
	} {
		if insert(values...) == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// rubyWalled has a column of each Ruby gem.
type rubyWalled struct {
	ID   int64             `db:"id"`
	Key  field.Key         `db:"encrypted_kms_key"`
	Note field.Of[*string] `db:"note_ciphertext" kms:"lockbox"`
	SSN  field.Of[*string] `db:"encrypted_ssn" kms:"attr_encrypted"`
	IV   field.Part        `db:"encrypted_ssn_iv"`
}

// railsWalled has columns of Rails' encrypts, of which one may hold plaintext.
type railsWalled struct {
	ID    int64             `db:"id"`
	Email field.Of[*string] `db:"email" kms:"activerecord,deterministic"`
	Old   field.Of[*string] `db:"old" kms:"activerecord"`
}

// A column of Rails' encrypts holds a message, in the order of Rails or of a database.
func TestConstraintOfRailsEncrypts(t *testing.T) {
	t.Parallel()
	box := nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()})
	schemes := map[string]activerecord.Scheme{"old": {Plaintext: activerecord.PlaintextRead}}
	m := newModel[railsWalled](t, box, field.Config{Table: "walled", ActiveRecord: railsKeys(t, 0, "a"), ActiveRecordSchemes: schemes})
	r := railsWalled{ID: 1, Email: field.New(new("a")), Old: field.New(new("b"))}
	must(t, m.Seal(t.Context(), &r))
	for _, d := range []struct {
		field.Dialect
		driver, dsn, values, json string
	}{
		{field.SQLite, "sqlite", ":memory:", "(?, ?)", ""},
		{field.SQLite, "sqlite", ":memory:", "(?, ?)", "json"},
		{field.Postgres, "pgx", dbserver.Postgres(t), "($1, $2)", ""},
		{field.Postgres, "pgx", dbserver.Postgres(t), "($1, $2)", "json"},
		{field.Postgres, "pgx", dbserver.Postgres(t), "($1, $2)", "jsonb"},
		{field.MySQL, "mysql", dbserver.MariaDB(t), "(?, ?)", ""},
		{field.MySQL, "mysql", dbserver.MariaDB(t), "(?, ?)", "json"},
	} {
		db := newWall(t, d.driver, d.dsn, d.Dialect, m, d.json)
		insert := func(email, old any) error {
			_, err := db.Exec("INSERT INTO walled (email, old) VALUES "+d.values, email, old)
			return err
		}
		must(t, insert(r.Email, r.Old))
		must(t, insert(nil, "plaintext"))
		must(t, insert(`{"h": {"at": "KDq9KnkxWyLGMZL7P2N0ww==", "iv": "IcMlsWOpScLAxfi3"}, "p": "+1q+"}`, nil))
		cut := column(t, r.Email).(string)
		for _, bad := range []any{"ada@example.org", `"ada@example.org"`, "", "{}", `["p", "iv"]`, cut[:len(cut)-1]} {
			if insert(bad, nil) == nil {
				t.Errorf("%s %s: %q was accepted", d.Dialect, d.json, bad)
			}
		}
	}
	alone := newModel[struct {
		ID  int64             `db:"id"`
		Old field.Of[*string] `db:"old" kms:"activerecord"`
	}](t, box, field.Config{Table: "walled", ActiveRecord: railsKeys(t, activerecord.PlaintextRead, "a")})
	if constraint, err := alone.CheckConstraint(field.SQLite); err != nil || !strings.Contains(constraint, "1 = 1") {
		t.Errorf("a model without a condition has %q, %v", constraint, err)
	}
}

// newWall returns a database with the table of a model and its constraint. json is the
// type of the first column, if it is not text.
func newWall[R any](t *testing.T, driver, dsn string, d field.Dialect, m *field.Model[R], json string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	columns, err := m.DDL(d)
	must(t, err)
	if name, _, _ := strings.Cut(columns[0], " "); json != "" {
		columns[0] = name + " " + json
	}
	constraint, err := m.CheckConstraint(d)
	must(t, err)
	_, err = db.Exec("CREATE TABLE walled (" + strings.Join(append(columns, constraint), ", ") + ")")
	must(t, err)
	return db
}

// A base64 text in Ruby's form has whole groups of four, in one line or in lines of
// 60 characters as attr_encrypted writes them. One that was cut elsewhere is refused.
func TestConstraintOfRubysForm(t *testing.T) {
	t.Parallel()
	m := newModel[rubyWalled](t, nativeBox(t, kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}), field.Config{Table: "walled"})
	r := rubyWalled{ID: 1, Note: field.New(new(strings.Repeat("n", 100))), SSN: field.New(new(strings.Repeat("s", 100)))}
	must(t, m.Seal(t.Context(), &r))
	note, ssn := column(t, r.Note).(string), column(t, r.SSN).(string)
	if !strings.Contains(ssn, "\n") {
		t.Fatal("attr_encrypted writes one line")
	}
	for _, d := range []struct {
		field.Dialect
		driver, dsn, values string
	}{
		{field.SQLite, "sqlite", ":memory:", "(?, ?)"},
		{field.Postgres, "pgx", dbserver.Postgres(t), "($1, $2)"},
		{field.MySQL, "mysql", dbserver.MariaDB(t), "(?, ?)"},
		{field.MySQL, mysqlish.Driver(), dbserver.MariaDB(t) + "&sql_mode='NO_BACKSLASH_ESCAPES'", "(?, ?)"},
	} {
		db := newWall(t, d.driver, d.dsn, d.Dialect, m, "")
		insert := func(note, ssn any) error {
			_, err := db.Exec("INSERT INTO walled (note_ciphertext, encrypted_ssn) VALUES "+d.values, note, ssn)
			return err
		}
		must(t, insert(note, ssn))
		must(t, insert("", nil))
		for _, bad := range []int{58, 59, 62, 63} { // the line ends after 60
			if insert(note[:bad], ssn) == nil || insert(note, ssn[:bad]) == nil {
				t.Errorf("%s: the first %d characters were accepted", d.Dialect, bad)
			}
		}
	}
}
