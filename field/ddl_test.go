package field_test

import (
	"database/sql"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
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
