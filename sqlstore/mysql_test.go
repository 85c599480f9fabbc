package sqlstore

import (
	"testing"

	_ "github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
)

// A batch bounds its wait for locks and its statements, and leaves the session as
// it was.
func TestBoundWaitsMariaDB(t *testing.T) {
	t.Parallel()
	db, err := sqlx.Open("mysql", dbserver.MariaDB(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // one session
	bounds := func() (b struct{ Lock, Statement float64 }) {
		t.Helper()
		if err := db.Get(&b, "SELECT @@innodb_lock_wait_timeout AS `lock`, @@max_statement_time AS `statement`"); err != nil {
			t.Fatal(err)
		}
		return b
	}
	before := bounds()
	db.MustExec(boundWaits)
	if got := bounds(); got.Lock != 5 || got.Statement != 60 {
		t.Errorf("bounds of a batch = %+v", got)
	}
	db.MustExec("SET SESSION max_statement_time = 0.05")
	_, err = db.Exec("SELECT count(*) FROM information_schema.columns a, information_schema.columns b, information_schema.columns c WHERE a.column_name < concat(b.column_name, c.column_name)")
	if err == nil || !isLockTimeout(err) {
		t.Errorf("a statement that takes too long = %v, want one that a smaller batch helps against", err)
	}
	db.MustExec(resetWaits)
	if got := bounds(); got != before {
		t.Errorf("bounds after a batch = %+v, want %+v", got, before)
	}
}
