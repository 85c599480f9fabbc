package rotatecli_test

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// wide has a column of each kind whose width matters.
type wide struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Text  field.Of[string] `db:"text_ciphertext"`
	Bytes field.Of[[]byte] `db:"bytes_ciphertext" kms:"binary"`
	Index field.Index      `db:"text_bidx" kms:"of=Text,algorithm=hmac_sha256"`
}

// columns are the types of the columns above, and what check says about them.
var columns = []struct {
	name, key, text, bytes, index string
	exit                          int
	says                          []string
}{
	{"as DDL has them", "{text}", "{text}", "{blob}", "varchar(255)", 0, nil},
	{"a short key", "varchar(60)", "{text}", "{blob}", "varchar(44)", 2, []string{"! encrypted_kms_key is varchar(60), and what the model writes has "}},
	{"a key that fits", "varchar(500)", "{text}", "{blob}", "varchar(44)", 0, nil},
	{"short columns", "{text}", "varchar(51)", "{blob}", "varchar(43)", 2, []string{
		"! text_ciphertext is varchar(51), and what the model writes has 52 or more",
		"! text_bidx is varchar(43), and what the model writes has 44 or more",
	}},
	{"columns for some values", "{text}", "varchar(255)", "{blob}", "varchar(44)", 0, []string{"- text_ciphertext is varchar(255): what is longer is an error"}},
	{"text for bytes", "{text}", "{text}", "{text}", "varchar(44)", 2, []string{"! bytes_ciphertext is {type}, and the model writes bytes"}},
	{"bytes for a key", "{blob}", "{text}", "{blob}", "varchar(44)", 2, []string{"! encrypted_kms_key is bytea, and the model writes text"}},
	{"char for a key", "char(240)", "{text}", "{blob}", "varchar(44)", 2, []string{"! encrypted_kms_key is bpchar(240), which pads what is written"}},
}

func TestCheckPostgres(t *testing.T) {
	// Nothing that is kept of a table that is there no more.
	dsn := dbserver.Postgres(t) + "&default_query_exec_mode=describe_exec"
	testCheck(t, field.Postgres, "pgx", dsn, len(columns), "{text}", "text", "{blob}", "bytea", "{type}", "text")
}
func TestCheckMariaDB(t *testing.T) { testCheckMySQL(t, "mysql", dbserver.MariaDB(t)) }
func TestCheckMySQL(t *testing.T)   { testCheckMySQL(t, "mysql", dbserver.MySQL(t)) }
func TestCheckMySQLish(t *testing.T) {
	testCheckMySQL(t, mysqlish.Driver(), dbserver.MariaDB(t))
}

func testCheckMySQL(t *testing.T, driver, dsn string) {
	// Its keys may be in columns of bytes and in char(n), which lose nothing.
	testCheck(t, field.MySQL, driver, dsn, len(columns)-2, "{text}", "longtext", "{blob}", "longblob", "{type}", "longtext")
}

func testCheck(t *testing.T, d field.Dialect, driver, dsn string, n int, types ...string) {
	db, err := sql.Open(driver, dsn)
	check(err)
	defer db.Close()
	box, err := kmsencrypted.NewBox(kmstest.Memory())
	check(err)
	indexKey, err := blindindex.NewMasterKey(make([]byte, blindindex.KeySize))
	check(err)
	m, err := field.NewModel[wide](box, field.Config{Table: "wide", IndexKey: indexKey})
	check(err)
	replace := strings.NewReplacer(types...).Replace
	for _, c := range columns[:n] {
		for _, statement := range []string{"DROP TABLE IF EXISTS wide",
			"CREATE TABLE wide (id bigint PRIMARY KEY, encrypted_kms_key " + c.key + ", text_ciphertext " + c.text + ", bytes_ciphertext " + c.bytes + ", text_bidx " + c.index + ")",
		} {
			_, err := db.Exec(replace(statement))
			check(err)
		}
		var out bytes.Buffer
		exit := rotatecli.Program{
			Open: func(context.Context) (*rotatecli.Database, error) {
				return &rotatecli.Database{DB: db, Dialect: d, Models: []field.AnyModel{m}}, nil
			},
			Stdout: &out, Stderr: io.Discard,
		}.Run(t.Context(), []string{"check"})
		said := out.String()
		if exit != c.exit || strings.Count(said, "\n") != len(c.says)+1 { // and that there is no constraint
			t.Errorf("%s: exit %d, want %d, and %d lines:\n%s", c.name, exit, c.exit, len(c.says)+1, said)
		}
		for _, want := range c.says {
			if !strings.Contains(said, "wide  "+replace(want)) {
				t.Errorf("%s: check does not say %q:\n%s", c.name, replace(want), said)
			}
		}
	}
}
