package rotatecli_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// line is a row of the runbook's table.
type line struct{ see, means, do string }

// runbookTable reads the table "what you see".
func runbookTable(t *testing.T) (lines []line) {
	t.Helper()
	page, err := os.ReadFile("../docs/rotation-runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| what you see |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, row := range strings.Split(table, "\n")[2:] {
		cells := strings.Split(strings.Trim(row, "|"), " | ")
		if len(cells) != 3 {
			t.Fatalf("%d cells in %q", len(cells), row)
		}
		lines = append(lines, line{strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])})
	}
	return lines
}

// TestRunbookTable provokes each line of the table: the command line prints what the line
// quotes, and what the line tells to type is typed and helps.
func TestRunbookTable(t *testing.T) {
	lines := runbookTable(t)
	left := make(map[string]bool)
	for see := range outages {
		left[see] = true
	}
	for _, l := range lines {
		provoke, known := outages[l.see]
		if !known {
			t.Errorf("no test provokes the line %q", l.see)
			continue
		}
		delete(left, l.see)
		t.Run(l.see, func(t *testing.T) {
			if !provoke.alone {
				t.Parallel()
			}
			n := newNight(t, provoke.on)
			provoke.do(n)
			n.compare(l)
		})
	}
	for see := range left {
		t.Errorf("no line of the table is %q", see)
	}
	t.Logf("%d lines", len(lines))
}

// quoted is a part of a line that is printed or typed.
var quoted = regexp.MustCompile("`([^`]+)`")

// compare holds what was printed and typed against a line.
func (n *night) compare(l line) {
	n.Helper()
	printed := strings.Join(strings.Fields(n.printed.String()), " ")
	for _, q := range quoted.FindAllStringSubmatch(l.see+" "+l.do, -1) {
		text := q[1]
		if command, isCommand := strings.CutPrefix(text, "ops "); isCommand {
			command = strings.NewReplacer("--table T", "--table customers", "--id ID", "--id 7").Replace(command)
			if !strings.Contains(n.typed, "\n"+command) {
				n.Errorf("the line tells to type %q, which nobody did", text)
			}
		}
	}
	for _, q := range quoted.FindAllStringSubmatch(l.see, -1) {
		text := q[1]
		if strings.HasPrefix(text, "ops ") || strings.HasPrefix(text, "--") || strings.HasPrefix(text, "providers/") {
			continue
		}
		pattern := regexp.QuoteMeta(text)
		pattern = strings.NewReplacer("…", ".*", "N ", "[0-9,]+ ").Replace(pattern)
		if !regexp.MustCompile(pattern).MatchString(printed) {
			n.Errorf("the line quotes %q, which nothing printed:\n%s", text, n.printed.String())
		}
	}
	if code := regexp.MustCompile("exit code ([0-9]+)").FindStringSubmatch(l.see); code != nil && !strings.Contains(n.codes, " "+code[1]+" ") {
		n.Errorf("no command ended with %s, but with%s", code[0], n.codes)
	}
}

// night is a table of customers, whose keys are under key services that have trouble.
type night struct {
	*testing.T
	server
	db        *sqlx.DB // of the administrator
	old, next *kmstest.Service
	versions  map[int]kmsencrypted.Version
	current   int
	models    func(*kmsencrypted.Box) []field.AnyModel // of the program

	mu      sync.Mutex
	printed bytes.Buffer
	typed   string // commands, each after a newline
	codes   string // exit codes between spaces
}

// newNight makes the table with its key services. Version 2 is the current one.
func newNight(t *testing.T, on func(testing.TB) server) *night {
	t.Helper()
	if on == nil {
		on = sqliteServer
	}
	n := &night{T: t, server: on(t), current: 2, codes: " "}
	n.db = n.connect(n.dsn)
	dir := t.TempDir()
	service := func(name string) *kmstest.Service {
		p, err := local.Create(filepath.Join(dir, name))
		n.must(err)
		return kmstest.NewService(p)
	}
	n.old, n.next = service("old.key"), service("new.key")
	n.versions = map[int]kmsencrypted.Version{1: {Provider: n.old.Provider()}, 2: {Provider: n.next.Provider()}}
	n.models = func(b *kmsencrypted.Box) []field.AnyModel {
		return []field.AnyModel{modelIn[granted](n, b, "customers")}
	}
	return n
}

// server is a database server.
type server struct {
	dialect field.Dialect
	driver  string
	dsn     string
	text    string // the type of long texts
	stop    func() // ends its replica
}

func sqliteServer(t testing.TB) server {
	dsn := "file:" + filepath.Join(t.TempDir(), "app.sqlite3") + "?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)"
	return server{dialect: field.SQLite, driver: "sqlite", dsn: dsn, text: "text"}
}

func (n *night) connect(dsn string) *sqlx.DB {
	db, err := sqlx.Open(n.driver, dsn)
	n.must(err)
	n.Cleanup(func() { db.Close() })
	return db
}

func (n *night) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

func (n *night) box(current int) *kmsencrypted.Box {
	b, err := kmsencrypted.Config{Current: current, Versions: n.versions}.Box()
	n.must(err)
	return b
}

func modelIn[R any](n *night, b *kmsencrypted.Box, table string) *field.Model[R] {
	m, err := field.NewModel[R](b, field.Config{Table: table})
	n.must(err)
	return m
}

func (n *night) model(current int) *field.Model[granted] {
	return modelIn[granted](n, n.box(current), "customers")
}

// role makes a user of PostgreSQL without rights, and its connections.
func (n *night) role() (name string, db *sqlx.DB) {
	n.Helper()
	name = "ops_" + strings.ToLower(rand.Text()[:10])
	n.exec("CREATE ROLE " + name + " LOGIN PASSWORD '" + name + "'")
	n.Cleanup(func() { n.exec("DROP OWNED BY "+name, "DROP ROLE "+name) })
	u, err := url.Parse(n.dsn)
	n.must(err)
	u.User = url.UserPassword(name, name)
	return name, n.connect(u.String() + "&default_query_exec_mode=exec")
}

// fill makes the table with some rows at version 1.
func (n *night) fill(rows int) {
	n.Helper()
	n.exec("CREATE TABLE customers (id bigint PRIMARY KEY, encrypted_kms_key text, email_ciphertext " + n.text + ")")
	list := make([]*granted, rows)
	for i := range list {
		list[i] = &granted{ID: int64(i + 1), Email: field.New(fmt.Sprint(secretEmail, i+1))}
	}
	n.must(kmssqlx.Insert(n.Context(), n.db, n.model(1), list...))
}

func (n *night) exec(statements ...string) {
	n.Helper()
	for _, statement := range statements {
		if _, err := n.db.Exec(statement); err != nil {
			n.Fatalf("%s: %v", statement, err)
		}
	}
}

// at returns the number of rows at a version.
func (n *night) at(version int) (rows int) {
	n.Helper()
	n.must(n.db.Get(&rows, fmt.Sprintf("SELECT count(*) FROM customers WHERE encrypted_kms_key LIKE 'v%d:%%'", version)))
	return rows
}

// ops types a command, which must end with a code, and returns what it prints.
func (n *night) ops(code int, command string) string {
	n.Helper()
	return n.opsUntil(n.Context(), n.db.DB, code, command)
}

// opsUntil is ops of another database user, interrupted at the end of ctx.
func (n *night) opsUntil(ctx context.Context, db *sql.DB, code int, command string) string {
	n.Helper()
	var out lockedBuffer
	p := rotatecli.Program{
		Name: "ops", Stdout: &out, Stderr: &out,
		Open: func(context.Context) (*rotatecli.Database, error) {
			return &rotatecli.Database{DB: db, Dialect: n.dialect, Models: n.models(n.box(n.current))}, nil
		},
	}
	got := p.Run(ctx, words(command))
	said := out.String()
	if got != code {
		n.Errorf("ops %s = %d, want %d\n%s", command, got, code, said)
	}
	if strings.Contains(said, secretEmail) {
		n.Errorf("ops %s prints a plaintext", command)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.printed.WriteString(said)
	n.typed += "\n" + command
	n.codes += fmt.Sprint(got) + " "
	return said
}

// words splits a command at spaces outside of quotes.
func words(command string) (list []string) {
	for _, w := range regexp.MustCompile(`'[^']*'|[^ ]+`).FindAllString(command, -1) {
		list = append(list, strings.Trim(w, "'"))
	}
	return list
}

// background types a command that goes on beside others. The function returned waits
// for its end.
func (n *night) background(ctx context.Context, code int, command string) (wait func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.opsUntil(ctx, n.db.DB, code, command)
	}()
	return func() { <-ended }
}

// until waits for a state of the database.
func (n *night) until(query string) {
	n.Helper()
	for range 600 {
		var rows int
		if err := n.db.Get(&rows, query); err == nil && rows > 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	n.Fatalf("it never happened: %s", query)
}

// says checks the output of a command.
func (n *night) says(said string, texts ...string) {
	n.Helper()
	for _, text := range texts {
		if !strings.Contains(said, text) {
			n.Errorf("want %q in:\n%s", text, said)
		}
	}
}

// cell reads a column of a customer.
func (n *night) cell(column string, id int) (value string) {
	n.Helper()
	n.must(n.db.Get(&value, fmt.Sprintf("SELECT %s FROM customers WHERE id = %d", column, id)))
	return value
}

// setCell writes a column of a customer, as no program of ours would.
func (n *night) setCell(column string, id int, value string) {
	n.Helper()
	_, err := n.db.Exec(n.db.Rebind("UPDATE customers SET "+column+" = ? WHERE id = ?"), value, id)
	n.must(err)
}

// lockedBuffer is a buffer of what several goroutines print.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
