package rotatecli_test

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// roughly is what MariaDB and MySQL tell: twice as many values as there are is usual.
const roughly = `equality and frequency \(about \d+ values\)`

func TestFrequencyPostgres(t *testing.T) {
	testFrequency(t, field.Postgres, "pgx", dbserver.Postgres(t), "ANALYZE wide", `equality and frequency \(about 4 values, the most frequent in 50 % of the records\)`)
}
func TestFrequencyMariaDB(t *testing.T) {
	testFrequency(t, field.MySQL, "mysql", dbserver.MariaDB(t), "ANALYZE TABLE wide", roughly)
}
func TestFrequencyMySQL(t *testing.T) {
	testFrequency(t, field.MySQL, "mysql", dbserver.MySQL(t), "ANALYZE TABLE wide", roughly)
}

// The inventory says what the statistics of the database know of a blind index, and takes
// no other numbers for a change.
func testFrequency(t *testing.T, d field.Dialect, driver, dsn, analyze, want string) {
	db, err := sql.Open(driver, dsn)
	check(err)
	defer db.Close()
	box, err := kmsencrypted.NewBox(kmstest.Memory())
	check(err)
	indexKey, err := blindindex.NewMasterKey(make([]byte, blindindex.KeySize))
	check(err)
	m, err := field.NewModel[wide](box, field.Config{Table: "wide", IndexKey: indexKey})
	check(err)
	exec := func(statements ...string) {
		for _, s := range statements {
			_, err := db.Exec(s)
			check(err)
		}
	}
	blob := map[field.Dialect]string{field.Postgres: "bytea", field.MySQL: "blob"}[d]
	exec("CREATE TABLE wide (id bigint PRIMARY KEY, encrypted_kms_key text, text_ciphertext text, bytes_ciphertext "+blob+", text_bidx varchar(255))",
		"CREATE INDEX wide_text ON wide (text_bidx)",
		"INSERT INTO wide (id) VALUES (0)")
	for n := 1; n < 1000; n *= 2 { // doubles the rows, up to 1,024
		exec("INSERT INTO wide (id) SELECT id + (SELECT max(id) + 1 FROM wide) FROM wide")
	}
	exec("UPDATE wide SET text_bidx = CASE WHEN id % 2 = 0 THEN 'half' WHEN id % 4 = 1 THEN 'quarter' WHEN id % 8 = 3 THEN 'c' ELSE 'd' END", analyze)
	inventory := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		exit := rotatecli.Program{
			Open: func(context.Context) (*rotatecli.Database, error) {
				return &rotatecli.Database{DB: db, Dialect: d, Models: []field.AnyModel{m}}, nil
			},
			Stdout: &out, Stderr: &errs,
		}.Run(t.Context(), append([]string{"inventory"}, args...))
		return exit, out.String() + errs.String()
	}
	if exit, said := inventory(); exit != 0 || !regexp.MustCompile(want+"\n").MatchString(said) {
		t.Errorf("inventory, exit %d: want %q in:\n%s", exit, want, said)
	}
	_, before := inventory("--format", "json")
	file := filepath.Join(t.TempDir(), "before.json")
	check(os.WriteFile(file, []byte(before), 0o600))
	exec("UPDATE wide SET text_bidx = 'half'", analyze)
	if exit, said := inventory("--since", file); exit != 0 {
		t.Errorf("inventory --since, exit %d: %s", exit, said)
	}
}
