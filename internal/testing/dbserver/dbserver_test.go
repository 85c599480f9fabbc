package dbserver

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
)

func TestPostgres(t *testing.T) { testDatabases(t, postgres) }
func TestMariaDB(t *testing.T)  { testDatabases(t, mariadb) }
func TestMySQL(t *testing.T)    { testDatabases(t, mysql) }

// testDatabases has eight tests use the server side by side, each in a database of its own.
func testDatabases(t *testing.T, e *engine) {
	t.Parallel()
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			db := open(t, e.driver, e.database(t))
			if _, err := db.Exec("CREATE TABLE notes (id int PRIMARY KEY, body varchar(20))"); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(fmt.Sprintf("INSERT INTO notes VALUES (1, 'of test %d 🔑')", i)); err != nil {
				t.Fatal(err)
			}
			var body string
			if err := db.QueryRow("SELECT body FROM notes").Scan(&body); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("of test %d 🔑", i); body != want {
				t.Errorf("SELECT body = %q, want %q", body, want)
			}
		})
	}
}

// Two transactions of one client may use two connections to the server.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	db := open(t, "pgx", PgBouncer(t)+"&default_query_exec_mode=simple_protocol")
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pid := func() (pid int) {
		if err := conn.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	first := pid()
	other, err := db.Begin() // takes the connection that is free again
	if err != nil {
		t.Fatal(err)
	}
	defer other.Rollback()
	if pid() == first {
		t.Error("one client keeps its connection to the server")
	}
}

func TestPostgresTwoDatabases(t *testing.T) { testTwoDatabases(t, postgres) }
func TestMariaDBTwoDatabases(t *testing.T)  { testTwoDatabases(t, mariadb) }

// testTwoDatabases shows that the databases of one test are two, and that they
// are dropped when it ends.
func testTwoDatabases(t *testing.T, e *engine) {
	t.Parallel()
	var dsns []string
	t.Run("at once", func(t *testing.T) {
		for i := range 2 {
			dsns = append(dsns, e.database(t))
			db := open(t, e.driver, dsns[i])
			if _, err := db.Exec("CREATE TABLE notes (id int)"); err != nil {
				t.Errorf("database %d: %v", i, err)
			}
		}
	})
	for _, dsn := range dsns {
		if err := open(t, e.driver, dsn).Ping(); err == nil {
			t.Error("Ping after the test = nil, want an error: no such database")
		}
	}
}

func TestPostgresExistingServer(t *testing.T) { testExistingServer(t, postgres, newPostgres) }
func TestMariaDBExistingServer(t *testing.T)  { testExistingServer(t, mariadb, newMariaDB) }

func testExistingServer(t *testing.T, running *engine, another func() *engine) {
	given := running.database(t)
	t.Setenv(running.variable, given)
	e := another()
	if server, err := e.server(); server != given || err != nil {
		t.Errorf("server() = %q, %v, want what %s says", server, err, e.variable)
	}
	if err := open(t, e.driver, e.database(t)).Ping(); err != nil {
		t.Error(err)
	}
}

func TestPostgresPassword(t *testing.T) {
	t.Parallel()
	testPassword(t, postgres, func(dsn string) string { return replacePassword(dsn, "postgres:", "@") })
}

func TestMariaDBPassword(t *testing.T) {
	t.Parallel()
	testPassword(t, mariadb, func(dsn string) string { return replacePassword(dsn, "root:", "@") })
}

// testPassword shows that other users of the machine cannot use a private server.
func testPassword(t *testing.T, e *engine, wrong func(dsn string) string) {
	if os.Getenv(e.variable) != "" {
		t.Skipf("%s names a server that has its own rules", e.variable)
	}
	dsn := e.database(t)
	for _, dsn := range []string{wrong(dsn), strings.Replace(wrong(dsn), "wrong", "", 1)} {
		if err := open(t, e.driver, dsn).Ping(); err == nil {
			t.Error("Ping with another password = nil, want an error")
		}
	}
}

func replacePassword(dsn, before, after string) string {
	head, rest, _ := strings.Cut(dsn, before)
	_, tail, _ := strings.Cut(rest, after)
	return head + before + "wrong" + after + tail
}

func TestPostgresGoneAtEnd(t *testing.T) { testGoneAtEnd(t, postgres) }
func TestMariaDBGoneAtEnd(t *testing.T)  { testGoneAtEnd(t, mariadb) }

// testGoneAtEnd runs this test binary once more, ends it in several ways and
// looks for what is left of its server.
func testGoneAtEnd(t *testing.T, e *engine) {
	if runtime.GOOS != "linux" || os.Getenv(e.variable) != "" {
		t.Skip("no private server here")
	}
	t.Parallel()
	e.database(t) // skips where there is no server program
	for _, end := range []string{"return", "exit", "panic", "kill"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			temp := sharedTempDir(t)
			child := exec.Command(os.Args[0], "-test.run=^TestChild$")
			child.Env = append(os.Environ(), "TMPDIR="+temp, "DBSERVER_CHILD="+e.driver, "DBSERVER_END="+end)
			input, err := child.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			output, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			dsn := firstDSN(output)
			if err := open(t, e.driver, dsn).Ping(); err != nil {
				t.Errorf("Ping(%q) while the test runs = %v", dsn, err)
			}
			if end == "kill" {
				err = child.Process.Kill()
			} else {
				err = input.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			child.Wait() // its exit status is as varied as its ends
			waitFor(t, "the server to end", func() bool { return open(t, e.driver, dsn).Ping() != nil })
			waitFor(t, "its folder to vanish", func() bool {
				left, err := os.ReadDir(temp)
				return err == nil && len(left) == 0
			})
		})
	}
}

// TestChild is the test that testGoneAtEnd runs in another process.
func TestChild(t *testing.T) {
	e := map[string]*engine{"pgx": postgres, "mysql": mariadb}[os.Getenv("DBSERVER_CHILD")]
	if e == nil {
		return // not in the other process
	}
	fmt.Println("dsn", e.database(t))
	bufio.NewReader(os.Stdin).ReadByte()
	switch os.Getenv("DBSERVER_END") {
	case "exit":
		os.Exit(3)
	case "panic":
		panic("as a test may")
	}
}

// sharedTempDir is a TempDir that the account of the server can reach.
func sharedTempDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "dbserver-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func firstDSN(output interface{ Read([]byte) (int, error) }) string {
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if dsn, found := strings.CutPrefix(lines.Text(), "dsn "); found {
			return dsn
		}
	}
	return ""
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func open(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestNoServer(t *testing.T) {
	e := newPostgres()
	broken := errors.New("does not start")
	for _, test := range []struct {
		name, ci, want string
		err            error
	}{
		{"not installed", "", "skip: no PostgreSQL server here: apt-get install postgresql, or set KMSENCRYPTED_POSTGRES_DSN", errNotInstalled},
		{"not installed in CI", "true", "fail: PostgreSQL: not installed (Debian package postgresql, or set KMSENCRYPTED_POSTGRES_DSN)", errNotInstalled},
		{"not installed, optional", "true", "skip: no PostgreSQL server here: apt-get install postgresql, or set KMSENCRYPTED_POSTGRES_DSN", errNotInstalled},
		{"broken", "", "fail: PostgreSQL: does not start (Debian package postgresql, or set KMSENCRYPTED_POSTGRES_DSN)", broken},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("CI", test.ci)
			e.optional = strings.HasSuffix(test.name, "optional")
			e.server = func() (string, error) { return "", test.err }
			recorder := &ending{TB: t}
			var done sync.WaitGroup
			done.Go(func() { e.database(recorder) })
			done.Wait()
			if recorder.text != test.want {
				t.Errorf("database() = %q, want %q", recorder.text, test.want)
			}
		})
	}
}

// ending notes how a test would have ended.
type ending struct {
	testing.TB
	text string
}

func (e *ending) Skipf(format string, args ...any) {
	e.text = "skip: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (e *ending) Fatalf(format string, args ...any) {
	e.text = "fail: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestInDatabase(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		engine    *engine
		dsn, want string
	}{
		{postgres, "postgres://u:p%2F@h:5433/old?sslmode=require", "postgres://u:p%2F@h:5433/new?sslmode=require"},
		{postgres, "postgresql://h", "postgresql://h/new"},
		{postgres, "host=h user=u", ""},
		{postgres, "postgres://u:p%zz@h/", ""},
		{mariadb, "u:p/?@tcp(h:3306)/old?loc=Europe%2FBerlin", "u:p/?@tcp(h:3306)/new?loc=Europe%2FBerlin"},
		{mariadb, "u@unix(/run/mysqld/mysqld.sock)/", "u@unix(/run/mysqld/mysqld.sock)/new"},
		{mariadb, "localhost", ""},
	} {
		got, err := test.engine.inDatabase(test.dsn, "new")
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("inDatabase(%q) = %q, %v, want %q", test.dsn, got, err, test.want)
		}
	}
}
