package kmstest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// Canary opens a database like [sql.Open] and fails the test when a plaintext reaches
// it: when one of the secrets is in an argument or in the text of a statement. The
// statement still runs. The database is closed when the test ends. Canary fails the
// test if it is called without secrets.
//
//	db := kmstest.Canary(t, "sqlite", path, "ada@example.org", 123456, born)
//
// A secret is text (string, []byte), a number (any integer or float type) or a
// [time.Time]:
//
//   - Text is found anywhere in a larger value, in any case of its ASCII letters, also
//     as base64 or hex and with the escapes of JSON and SQL. Text below 6 bytes would
//     occur by chance in ciphertexts, so it is found only as a separate word.
//   - A number is found as a separate number, in decimal text or as 8 bytes. Choose
//     one that is neither an id nor a LIMIT.
//   - A time is found to the second, in UTC and in its own zone; midnight also as a
//     date alone.
//
// Values that are compressed or written in another way are not found. Nor are values
// that bypass database/sql, such as in CopyFrom of pgx; [sql.Conn.Raw] returns the
// canary's connection, not the driver's. A failure names a secret by its index, never
// by its value.
func Canary(t testing.TB, driverName, dsn string, secrets ...any) *sql.DB {
	t.Helper()
	if len(secrets) == 0 {
		t.Fatal("kmstest.Canary: no secret to look for")
	}
	c := &canary{t: t}
	for i, value := range secrets {
		s, err := newSecret(value)
		if err != nil {
			t.Fatalf("kmstest.Canary: secret %d: %v", i, err)
		}
		c.secrets = append(c.secrets, s)
	}
	inner, err := openConnector(driverName, dsn)
	if err != nil {
		t.Fatalf("kmstest.Canary: %v", err)
	}
	db := sql.OpenDB(&canaryConnector{inner, c})
	t.Cleanup(func() { db.Close() })
	return db
}

type canary struct {
	t       testing.TB
	secrets []secret
}

// check checks what a statement sends: its text, its arguments or both.
func (c *canary) check(query, text string, args []driver.NamedValue) {
	for i, s := range c.secrets {
		if s.in([]byte(text)) {
			c.report(i, "the text", query)
		}
		for _, arg := range args {
			for _, text := range argumentTexts(arg.Value) {
				if s.in(text) {
					c.report(i, fmt.Sprintf("argument %d", arg.Ordinal), query)
					break
				}
			}
		}
	}
}

func (c *canary) report(secret int, where, query string) {
	c.t.Errorf("kmstest.Canary: plaintext in the database: secret %d is in %s of %s (from %s)",
		secret, where, c.shape(query), caller())
}

var (
	// Strings, quoted names, unterminated dollar-quoted strings, comments, numbers and
	// placeholders.
	values = regexp.MustCompile(`(?s)'(?:[^'\\]|''|\\.)*'?|"[^"]*"?|` + "`[^`]*`?" + `|\$\w*\$.*|--[^\n]*|/\*.*?\*/|[$:?@]?\b\d[\w.]*`)
	names  = regexp.MustCompile("^[\"`]\\w+[\"`]$")
	spaces = regexp.MustCompile(`\s+`)
)

// shape returns the statement without its values.
func (c *canary) shape(query string) string {
	shape := values.ReplaceAllStringFunc(query, func(value string) string {
		if names.MatchString(value) {
			return value
		}
		return "?"
	})
	shape = spaces.ReplaceAllString(shape, " ")
	for _, s := range c.secrets {
		// The secret may be in the place of a name, or in a dialect's own quotes.
		if s.in([]byte(shape)) {
			return "a statement"
		}
	}
	return fmt.Sprintf("%.200s", shape)
}

// caller returns the first function on the stack outside the canary and database/sql.
func caller() string {
	_, own, _, _ := runtime.Caller(0)
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		frame, more := frames.Next()
		if !strings.HasPrefix(frame.Function, "database/sql.") && frame.File != own {
			return fmt.Sprintf("%s:%d", filepath.Base(frame.File), frame.Line)
		}
		if !more {
			return "elsewhere"
		}
	}
}

// The types below wrap the types of the driver for database/sql. An optional interface
// that changes the behaviour of database/sql is implemented only if the driver
// implements it. The others are always implemented, and do what database/sql would do
// without them.

type canaryConnector struct {
	driver.Connector
	canary *canary
}

func openConnector(driverName, dsn string) (driver.Connector, error) {
	// This is how to get a registered driver; it does not connect.
	db, err := sql.Open(driverName, dsn)
	if err != nil {
		return nil, err
	}
	d := db.Driver()
	if err := db.Close(); err != nil {
		return nil, err
	}
	if d, ok := d.(driver.DriverContext); ok {
		return d.OpenConnector(dsn)
	}
	return dsnConnector{d, dsn}, nil
}

func (c *canaryConnector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn := &canaryConn{inner, c.canary}
	execer, canExec := inner.(driver.ExecerContext)
	queryer, canQuery := inner.(driver.QueryerContext)
	exec, query := canaryExecer{execer, c.canary}, canaryQueryer{queryer, c.canary}
	switch {
	case canExec && canQuery:
		return struct {
			*canaryConn
			canaryExecer
			canaryQueryer
		}{conn, exec, query}, nil
	case canExec:
		return struct {
			*canaryConn
			canaryExecer
		}{conn, exec}, nil
	case canQuery:
		return struct {
			*canaryConn
			canaryQueryer
		}{conn, query}, nil
	default:
		return conn, nil
	}
}

func (c *canaryConnector) Close() error {
	if closer, ok := c.Connector.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// dsnConnector is for a driver without connectors.
type dsnConnector struct {
	driver driver.Driver
	dsn    string
}

func (c dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c dsnConnector) Driver() driver.Driver                        { return c.driver }

// canaryExecer and canaryQueryer check after the call: with ErrSkip the driver asks
// for a prepared statement, which is checked again.

type canaryExecer struct {
	driver.ExecerContext
	canary *canary
}

func (e canaryExecer) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	result, err := e.ExecerContext.ExecContext(ctx, query, args)
	if !errors.Is(err, driver.ErrSkip) {
		e.canary.check(query, query, args)
	}
	return result, err
}

type canaryQueryer struct {
	driver.QueryerContext
	canary *canary
}

func (q canaryQueryer) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := q.QueryerContext.QueryContext(ctx, query, args)
	if !errors.Is(err, driver.ErrSkip) {
		q.canary.check(query, query, args)
	}
	return rows, err
}

type canaryConn struct {
	driver.Conn
	canary *canary
}

func (c *canaryConn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

func (c *canaryConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.canary.check(query, query, nil)
	inner, err := c.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	stmt := &canaryStmt{inner, c, query}
	if converter, ok := inner.(columnConverter); ok {
		return struct {
			*canaryStmt
			columnConverter
		}{stmt, converter}, nil
	}
	return stmt, nil
}

func (c *canaryConn) prepare(ctx context.Context, query string) (driver.Stmt, error) {
	if preparer, ok := c.Conn.(driver.ConnPrepareContext); ok {
		return preparer.PrepareContext(ctx, query)
	}
	stmt, err := c.Conn.Prepare(query)
	if err == nil && ctx.Err() != nil {
		stmt.Close()
		return nil, ctx.Err()
	}
	return stmt, err
}

func (c *canaryConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if beginner, ok := c.Conn.(driver.ConnBeginTx); ok {
		return beginner.BeginTx(ctx, opts)
	}
	if opts != (driver.TxOptions{}) {
		return nil, errors.New("driver supports neither isolation levels nor read-only transactions")
	}
	//lint:ignore SA1019 the driver has nothing newer
	tx, err := c.Conn.Begin()
	if err == nil && ctx.Err() != nil {
		tx.Rollback()
		return nil, ctx.Err()
	}
	return tx, err
}

func (c *canaryConn) Ping(ctx context.Context) error {
	if pinger, ok := c.Conn.(driver.Pinger); ok {
		return pinger.Ping(ctx)
	}
	return nil
}

func (c *canaryConn) ResetSession(ctx context.Context) error {
	if resetter, ok := c.Conn.(driver.SessionResetter); ok {
		return resetter.ResetSession(ctx)
	}
	return nil
}

func (c *canaryConn) IsValid() bool {
	validator, ok := c.Conn.(driver.Validator)
	return !ok || validator.IsValid()
}

func (c *canaryConn) CheckNamedValue(value *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(value)
	}
	return driver.ErrSkip
}

// columnConverter is driver.ColumnConverter, which is deprecated but in use.
type columnConverter interface {
	ColumnConverter(index int) driver.ValueConverter
}

type canaryStmt struct {
	driver.Stmt
	conn  *canaryConn
	query string
}

func (s *canaryStmt) CheckNamedValue(value *driver.NamedValue) error {
	if checker, ok := s.Stmt.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(value)
	}
	return s.conn.CheckNamedValue(value)
}

func (s *canaryStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	s.conn.canary.check(s.query, "", args)
	if execer, ok := s.Stmt.(driver.StmtExecContext); ok {
		return execer.ExecContext(ctx, args)
	}
	values, err := positional(ctx, args)
	if err != nil {
		return nil, err
	}
	//lint:ignore SA1019 the driver has nothing newer
	return s.Stmt.Exec(values)
}

func (s *canaryStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	s.conn.canary.check(s.query, "", args)
	if queryer, ok := s.Stmt.(driver.StmtQueryContext); ok {
		return queryer.QueryContext(ctx, args)
	}
	values, err := positional(ctx, args)
	if err != nil {
		return nil, err
	}
	//lint:ignore SA1019 the driver has nothing newer
	return s.Stmt.Query(values)
}

// positional is for a statement that supports neither names nor contexts.
func positional(ctx context.Context, args []driver.NamedValue) ([]driver.Value, error) {
	values := make([]driver.Value, len(args))
	for i, arg := range args {
		if arg.Name != "" {
			return nil, errors.New("driver does not support named parameters")
		}
		values[i] = arg.Value
	}
	return values, ctx.Err()
}
