package audit_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/audit"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
)

func TestAuditSQLite(t *testing.T)   { testAudit(t, field.SQLite, "sqlite", ":memory:") }
func TestAuditPostgres(t *testing.T) { testAudit(t, field.Postgres, "pgx", dbserver.Postgres(t)) }
func TestAuditMariaDB(t *testing.T)  { testAudit(t, field.MySQL, "mysql", dbserver.MariaDB(t)) }
func TestAuditMySQL(t *testing.T)    { testAudit(t, field.MySQL, "mysql", dbserver.MySQL(t)) }
func TestAuditMySQLish(t *testing.T) {
	testAudit(t, field.MySQL, mysqlish.Driver(), dbserver.MariaDB(t))
}

// lenient is a session that cuts, unless a statement asks for more.
const lenient = "&sql_mode=''"

func TestAuditMariaDBLenient(t *testing.T) {
	testAudit(t, field.MySQL, "mysql", dbserver.MariaDB(t)+lenient)
}
func TestAuditMySQLLenient(t *testing.T) {
	testAudit(t, field.MySQL, "mysql", dbserver.MySQL(t)+lenient)
}
func TestAuditMySQLishLenient(t *testing.T) {
	testAudit(t, field.MySQL, mysqlish.Driver(), dbserver.MariaDB(t)+lenient)
}

// utc is the time of an entry as text.
var utc = map[field.Dialect]string{
	field.Postgres: "to_char(viewed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')",
	field.MySQL:    "date_format(viewed_at, '%Y-%m-%d %H:%i:%s')",
	field.SQLite:   "substr(viewed_at, 1, 19)",
}

func testAudit(t *testing.T, d field.Dialect, driver, dsn string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if err := audit.CreateTables(t.Context(), db, d); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.FixedZone("east", 3600))
	err = audit.Log(t.Context(), db, d,
		audit.Entry{Viewer: "eve", Table: "customers", ID: "7", Fields: []string{"Email", "Born"}, Place: "console", At: at},
		audit.Entry{Viewer: "bob", Table: "customers", ID: "8", Fields: []string{"Email"}})
	if err != nil {
		t.Fatal(err)
	}
	var viewer, table, fields, place, viewedAt string
	err = db.QueryRowContext(t.Context(), "SELECT viewer, record_table, fields, place, "+utc[d]+" FROM kms_audits WHERE record_id = '7'").Scan(&viewer, &table, &fields, &place, &viewedAt)
	if err != nil || viewer != "eve" || table != "customers" || fields != "Email,Born" || place != "console" || viewedAt != "2026-02-03 03:05:06" {
		t.Errorf("entry = %q, %q, %q, %q, %q, %v", viewer, table, fields, place, viewedAt, err)
	}
	err = audit.Log(t.Context(), db, d, audit.Entry{Viewer: "x", Table: "t", ID: "1", Fields: []string{"A"}}, audit.Entry{Viewer: "x"})
	var count int
	if scanErr := db.QueryRowContext(t.Context(), "SELECT count(*) FROM kms_audits").Scan(&count); !errors.Is(err, kmsencrypted.ErrConfig) || scanErr != nil || count != 2 {
		t.Errorf("an incomplete entry: %v, then %d entries, want ErrConfig and 2", err, count)
	}
	if d == field.SQLite {
		return // which knows no lengths
	}
	for what, e := range map[string]audit.Entry{
		"viewer": {Viewer: strings.Repeat("v", 300), Table: "t", ID: "1", Fields: []string{"A"}},
		"id":     {Viewer: "x", Table: "t", ID: strings.Repeat("1", 300), Fields: []string{"A"}},
	} {
		err := audit.Log(t.Context(), db, d, e)
		if scanErr := db.QueryRowContext(t.Context(), "SELECT count(*) FROM kms_audits").Scan(&count); err == nil || scanErr != nil || count != 2 {
			t.Errorf("an entry whose %s is too long: %v, then %d entries, want an error and 2", what, err, count)
		}
	}
}

func TestUnknownDialect(t *testing.T) {
	if _, err := audit.Tables("oracle"); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("DDL of an unknown dialect: %v, want ErrConfig", err)
	}
}
