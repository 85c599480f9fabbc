package mysqlish_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
)

func open(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.Exec("CREATE TABLE notes (id bigint AUTO_INCREMENT PRIMARY KEY, body varchar(5) UNIQUE, n int, CONSTRAINT few CHECK (n < 10))"); err != nil {
		t.Fatal(err)
	}
	return db
}

// MariaDB takes each of these, and MySQL answers with the number.
var refused = []struct {
	statement string
	number    uint16
}{
	{"INSERT INTO notes (n) VALUES (1) RETURNING id", 1064},
	{"REPLACE INTO notes (n) VALUES (1) RETURNING id", 1064},
	{"DELETE FROM notes WHERE n > 5 RETURNING id", 1064},
	{"CREATE OR REPLACE TABLE other (id int)", 1064},
	{"CREATE TABLE ids (id uuid PRIMARY KEY)", 1064},
	{"CREATE TABLE addresses (address INET6)", 1064},
	{"CREATE TABLE texts (body text DEFAULT 'none')", 1101},
	{"CREATE TABLE arias (id int) ENGINE=Aria", 1286},
	{"CREATE SEQUENCE numbers", 1064},
	{"SELECT NEXT VALUE FOR numbers", 1064},
	{"SELECT nextval(numbers)", 1305},
	{"ALTER TABLE notes ADD COLUMN IF NOT EXISTS more int", 1064},
	{"CREATE INDEX IF NOT EXISTS notes_n ON notes (n)", 1064},
	{"ALTER TABLE notes DROP CONSTRAINT IF EXISTS none", 1064},
	{"SELECT * FROM notes LIMIT ROWS EXAMINED 10", 1064},
	{"SELECT * FROM notes OFFSET 1 ROW FETCH FIRST 2 ROWS ONLY", 1064},
	{"SELECT * FROM notes FOR UPDATE WAIT 1", 1064},
	{"VALUES (1, 2)", 1064},
	{"SELECT * FROM (VALUES (1, 2)) AS v", 1064},
	{"SELECT CAST('7' AS int)", 1064},
	{"SELECT JSON_DETAILED('[]')", 1305},
	{"SELECT PASSWORD('a')", 1064},
	{"SET STATEMENT max_statement_time = 1 FOR SELECT 1", 1064},
	{"SET max_statement_time = 1", 1193},
	{"SELECT @@max_statement_time", 1193},
	{"SET sql_mode = 'NO_AUTO_CREATE_USER'", 1231},
	{"SELECT 'a' COLLATE utf8mb4_unicode_nopad_ci", 1273},
	{"SHOW SLAVE STATUS", 1064},
}

func TestRefused(t *testing.T) {
	t.Parallel()
	maria, db := open(t, "mysql", dbserver.MariaDB(t)), open(t, mysqlish.Driver(), dbserver.MariaDB(t))
	for _, c := range refused {
		if _, err := maria.Exec(c.statement); err != nil {
			t.Errorf("MariaDB: %s: %v", c.statement, err)
		}
		wantNumber(t, db, c.number, c.statement)
		// MySQL does not look into texts, names and comments.
		if _, err := db.Exec("SELECT '" + strings.ReplaceAll(c.statement, "'", "''") + "' AS `RETURNING` -- " + c.statement); err != nil {
			t.Errorf("as a text: %s: %v", c.statement, err)
		}
	}
}

func wantNumber(t *testing.T, db *sql.DB, number uint16, statement string, args ...any) {
	t.Helper()
	_, err := db.Exec(statement, args...)
	if e, ok := errors.AsType[*mysql.MySQLError](err); !ok || e.Number != number {
		t.Errorf("%s: %v, want error %d", statement, err, number)
	}
}

// What both have passes, and the rest is as MySQL has it.
func TestLikeMySQL(t *testing.T) {
	t.Parallel()
	db := open(t, mysqlish.Driver(), dbserver.MariaDB(t))
	for _, statement := range []string{
		"INSERT INTO notes () VALUES (), ()",
		"CREATE OR REPLACE VIEW all_notes AS SELECT * FROM notes",
		"CREATE TABLE other (id char(36) DEFAULT (uuid()), body text DEFAULT NULL, raw blob)",
		"SELECT v.c FROM JSON_TABLE('[[1]]', '$[*]' COLUMNS (c INT PATH '$[0]')) AS v",
		"SELECT * FROM notes WHERE id = 1 LOCK IN SHARE MODE",
		"INSERT INTO notes (n) VALUES (1) ON DUPLICATE KEY UPDATE n = VALUES(n)",
		"SHOW REPLICA STATUS",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	for query, want := range map[string]string{
		"SELECT VERSION()":                         "9.4.0",
		"SELECT 1 /*M!100500 + 1 */":               "1",
		"SELECT 1 /*! + 1 */":                      "2",
		"SELECT 1 /*!80000 + 1 */ /*!999999 + 1*/": "2",
		"SELECT /*+ SET_VAR(sql_mode = 'STRICT_ALL_TABLES') */ @@sql_mode": "STRICT_ALL_TABLES",
		"SELECT @@sql_mode LIKE '%NO_ZERO_DATE%'":                          "1",
	} {
		var got string
		if err := db.QueryRow(query).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q, %v, want %q", query, got, err, want)
		}
	}
	if _, err := db.Exec("INSERT INTO notes (body) VALUES (?)", "a"); err != nil {
		t.Fatal(err)
	}
	wantNumber(t, db, 3819, "INSERT INTO notes (n) VALUES (?)", 11)
	wantNumber(t, db, 1062, "INSERT INTO notes (body) VALUES (?)", "a")
	_, err := db.Exec("INSERT INTO notes (body) VALUES (?)", "a")
	if want := "Duplicate entry 'a' for key 'notes.body'"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("duplicate: %v, want %s", err, want)
	}
	wantNumber(t, db, 1406, "INSERT INTO notes (body) VALUES (?)", "too long")
}
