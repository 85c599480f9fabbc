package kmssqlx_test

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// A session of these servers cuts what is too long and replaces characters that a
// column does not have, unless a statement asks for more.
func TestSuiteMariaDBLenient(t *testing.T) {
	t.Parallel()
	runSuite(t, mariadb.set("sql_mode", "''"))
}
func TestSuiteMySQLLenient(t *testing.T) {
	t.Parallel()
	runSuite(t, realMySQL.set("sql_mode", "''"))
}
func TestSuiteMySQLishLenient(t *testing.T) {
	t.Parallel()
	runSuite(t, mysqlLike.set("sql_mode", "''"))
}

// short is a record whose columns are too short for some values.
type short struct {
	ID   int64            `db:"id"`
	Name string           `db:"name"`
	Key  field.Key        `db:"encrypted_kms_key"`
	Note field.Of[string] `db:"note_ciphertext"`
}

const fits, tooLong = "fits", "longer than any note that fits"

// shortTable makes a table whose columns hold fits and the keys of version 1.
func (e *env) shortTable(t *testing.T, name string, id string) (v1, v2 *field.Model[short]) {
	t.Helper()
	at := *e
	at.table += name
	one := kmstest.Memory()
	versions := map[int]kmsencrypted.Version{1: {Provider: one}, 2: {Provider: multi.New([]kmsencrypted.Provider{one, kmstest.Memory()}, multi.Options{Tags: []string{"one", "two"}})}}
	v1 = model[short](t, &at, kmsencrypted.Config{Current: 1, Versions: versions})
	v2 = model[short](t, &at, kmsencrypted.Config{Current: 2, Versions: versions})
	sample := short{ID: 1 << 40, Note: field.New(fits)}
	must(t, v1.Seal(t.Context(), &sample))
	latin := ""
	if e.dialect == field.MySQL {
		latin = " CHARACTER SET latin1"
	}
	_, err := e.db.Exec(fmt.Sprintf("CREATE TABLE %s (id %s, name varchar(10)%s, encrypted_kms_key varchar(%d), note_ciphertext varchar(%d))",
		at.table, id, latin, columnLength(t, sample.Key), columnLength(t, sample.Note)))
	must(t, err)
	return v1, v2
}

func columnLength(t *testing.T, column driver.Valuer) int {
	t.Helper()
	v, err := column.Value()
	must(t, err)
	return len(v.(string))
}

// nothingIsCut writes what does not fit with every verb: it is an error, and the
// row is as it was.
func nothingIsCut(t *testing.T, e *env) {
	if e.dialect == field.SQLite {
		return // which knows no lengths
	}
	for name, id := range map[string]string{"_given": "bigint PRIMARY KEY", "_made": e.id} {
		v1, v2 := e.shortTable(t, name, id)
		for what, bad := range e.misfits() {
			row := func(id int64, fill func(*short)) *short {
				r := &short{Name: "name", Note: field.New(fits)}
				if fill != nil {
					fill(r)
				}
				if name == "_given" {
					r.ID = id
				}
				return r
			}
			good := row(1, nil)
			must(t, kmssqlx.Insert(t.Context(), e.db, v1, good))
			refused(t, what+name+": Insert", kmssqlx.Insert(t.Context(), e.db, v1, row(2, bad)))
			refused(t, what+name+": Insert of two", kmssqlx.Insert(t.Context(), e.db, v1, row(3, nil), row(4, bad)))
			changed := *good
			bad(&changed)
			refused(t, what+name+": Update", kmssqlx.Update(t.Context(), e.db, v1, &changed, "*"))
			tx := e.db.MustBegin()
			changed = *good
			bad(&changed)
			refused(t, what+name+": Update in a transaction", kmssqlx.Update(t.Context(), tx, v1, &changed, "*"))
			must(t, tx.Rollback())
			rows := readShort(t, e, v1)
			if len(rows) != 1 || rows[0].Name != "name" || rows[0].Note.Must() != fits {
				t.Errorf("%s%s: %d rows are left, the first named %q", what, name, len(rows), rows[0].Name)
			}
			must(t, kmssqlx.Delete(t.Context(), e.db, v1, good))
		}
		e.keysAreNotCut(t, v1, v2)
	}
}

// keysAreNotCut writes keys of version 2, which are too long for their column.
func (e *env) keysAreNotCut(t *testing.T, v1, v2 *field.Model[short]) {
	t.Helper()
	good := short{ID: 1, Name: "name", Note: field.New(fits)}
	must(t, kmssqlx.Insert(t.Context(), e.db, v1, &good))
	for verb, write := range map[string]func(row *short) error{
		"Insert": func(*short) error {
			return kmssqlx.Insert(t.Context(), e.db, v2, &short{ID: 2, Name: "name", Note: field.New(fits)})
		},
		"Rewrap": func(row *short) error { return kmssqlx.Rewrap(t.Context(), e.db, v2, row) },
		"Rekey":  func(row *short) error { return kmssqlx.Rekey(t.Context(), e.db, v2, row) },
	} {
		row := readShort(t, e, v2)[0]
		refused(t, "a long key: "+verb, write(&row))
		if rows := readShort(t, e, v2); len(rows) != 1 || rows[0].Note.Must() != fits {
			t.Errorf("a long key: %s left %d rows", verb, len(rows))
		}
	}
}

// misfits are changes of a record that do not fit into its row.
func (e *env) misfits() map[string]func(*short) {
	all := map[string]func(*short){
		"a long text":       func(r *short) { r.Name = "longer than ten" },
		"a long ciphertext": func(r *short) { r.Note.Set(tooLong) },
	}
	if e.dialect == field.MySQL {
		all["another character set"] = func(r *short) { r.Name = "日本" }
	}
	return all
}

func readShort(t *testing.T, e *env, m *field.Model[short]) (rows []short) {
	t.Helper()
	must(t, kmssqlx.Select(t.Context(), e.db, m, &rows, "SELECT * FROM "+m.Table()+" ORDER BY id"))
	return rows
}

// refused checks that a statement failed for what the database was given.
func refused(t *testing.T, what string, err error) {
	t.Helper()
	wantError(t, what, err)
	if err != nil && errors.Is(err, kmsencrypted.ErrConflict) {
		t.Errorf("%s: %v, want the error of the database", what, err)
	}
}

// TestStrictKeepsModes: the other modes of a session of MariaDB hold in a strict
// statement too, and after it the session is as it was.
func TestStrictKeepsModes(t *testing.T) {
	t.Parallel()
	s := mariadb.set("sql_mode", "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'")
	db := sqlx.MustOpen(s.driver, s.open(t))
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	db.MustExec(`CREATE TABLE modes ("mode" varchar(500))`)
	for range 2 {
		db.MustExec(sqldialect.MySQL.Strict(`INSERT INTO modes ("mode") SELECT @@sql_mode || ? || '\'`), ",more")
	}
	var modes []string
	must(t, db.Select(&modes, "SELECT mode FROM modes UNION ALL SELECT @@sql_mode"))
	const own = "PIPES_AS_CONCAT,ANSI_QUOTES,NO_BACKSLASH_ESCAPES"
	if want := own + `,STRICT_ALL_TABLES,more\`; !slices.Equal(modes, []string{want, want, own}) {
		t.Errorf("sql_mode in two statements and after them: %q", modes)
	}
}
