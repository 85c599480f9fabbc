package audit_test

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/audit"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/dbserver"
)

func TestAuditSQLite(t *testing.T)   { testAudit(t, field.SQLite, "sqlite", ":memory:") }
func TestAuditPostgres(t *testing.T) { testAudit(t, field.Postgres, "pgx", dbserver.Postgres(t)) }
func TestAuditMariaDB(t *testing.T)  { testAudit(t, field.MySQL, "mysql", dbserver.MariaDB(t)) }

func testAudit(t *testing.T, d field.Dialect, driver, dsn string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	ddl, err := audit.DDL(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), ddl); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.FixedZone("east", 3600))
	err = audit.Log(t.Context(), db, d,
		audit.Entry{Viewer: "eve", Table: "customers", ID: "7", Fields: []string{"Email", "Born"}, Place: "console", At: at},
		audit.Entry{Viewer: "bob", Table: "customers", ID: "8", Fields: []string{"Email"}})
	if err != nil {
		t.Fatal(err)
	}
	var viewer, fields string
	if err := db.QueryRowContext(t.Context(), "SELECT viewer, fields FROM kms_audits WHERE record_id = '7'").Scan(&viewer, &fields); err != nil || viewer != "eve" || fields != "Email,Born" {
		t.Errorf("entry = %q, %q, %v", viewer, fields, err)
	}
	err = audit.Log(t.Context(), db, d, audit.Entry{Viewer: "x", Table: "t", ID: "1", Fields: []string{"A"}}, audit.Entry{Viewer: "x"})
	var count int
	if scanErr := db.QueryRowContext(t.Context(), "SELECT count(*) FROM kms_audits").Scan(&count); !errors.Is(err, kmsencrypted.ErrConfig) || scanErr != nil || count != 2 {
		t.Errorf("an incomplete entry: %v, then %d entries, want ErrConfig and 2", err, count)
	}
}

func TestUnknownDialect(t *testing.T) {
	if _, err := audit.DDL("oracle"); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("DDL of an unknown dialect: %v, want ErrConfig", err)
	}
}
