// Package mysqlish makes a MariaDB server behave like MySQL 9 for the statements
// of this module: a database/sql driver that refuses what MySQL does not have,
// with MySQL's error numbers. Only tests import it.
//
// It does not replace a run on MySQL itself; see package dbserver.
package mysqlish

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"regexp"
	"strings"
	"sync"

	"github.com/go-sql-driver/mysql"
)

// Driver registers the driver and returns its name. The DSN is that of a MariaDB
// server for the driver "mysql".
var Driver = sync.OnceValue(func() string {
	const name = "mysqlish"
	sql.Register(name, mysqlish{})
	return name
})

type mysqlish struct{}

func (d mysqlish) Open(dsn string) (driver.Conn, error) {
	c, err := d.OpenConnector(dsn)
	if err != nil {
		return nil, err
	}
	return c.Connect(context.Background())
}

func (mysqlish) OpenConnector(dsn string) (driver.Connector, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	if config.Params == nil {
		config.Params = make(map[string]string)
	}
	if _, ok := config.Params["sql_mode"]; !ok {
		config.Params["sql_mode"] = "'ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"
	}
	inner, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return connector{inner}, nil
}

type connector struct{ driver.Connector }

func (connector) Driver() driver.Driver { return mysqlish{} }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{inner.(mysqlConn)}, nil
}

// mysqlConn lists the methods of a connection of go-sql-driver.
type mysqlConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	driver.NamedValueChecker
}

type conn struct{ mysqlConn }

func prepared(query string) (string, error) {
	plain, sent := translate(query)
	return sent, check(plain, lex(plain))
}

func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	sent, err := prepared(query)
	if err != nil {
		return nil, err
	}
	inner, err := c.mysqlConn.PrepareContext(ctx, sent)
	if err != nil {
		return nil, asMySQL(err, query)
	}
	return &stmt{inner.(mysqlStmt), query}, nil
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	sent, err := prepared(query)
	if err != nil {
		return nil, err
	}
	result, err := c.mysqlConn.ExecContext(ctx, sent, args)
	return result, asMySQL(err, query)
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	sent, err := prepared(query)
	if err != nil {
		return nil, err
	}
	rows, err := c.mysqlConn.QueryContext(ctx, sent, args)
	return rows, asMySQL(err, query)
}

// mysqlStmt lists the methods of a prepared statement of go-sql-driver.
type mysqlStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
	driver.NamedValueChecker
}

type stmt struct {
	mysqlStmt
	query string
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	result, err := s.mysqlStmt.ExecContext(ctx, args)
	return result, asMySQL(err, s.query)
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := s.mysqlStmt.QueryContext(ctx, args)
	return rows, asMySQL(err, s.query)
}

var (
	constraint = regexp.MustCompile("^CONSTRAINT `(?:.*\\.)?([^`]*)` failed")
	key        = regexp.MustCompile(`for key '([^'.]*)'$`)
	into       = regexp.MustCompile("(?i)\\b(?:INTO|UPDATE)\\s+(?:`[^`]*`\\.)?`?([\\w$]+)`?")
)

// asMySQL converts an error of MariaDB to MySQL's.
func asMySQL(err error, query string) error {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return err
	}
	switch e.Number {
	case 4025:
		if m := constraint.FindStringSubmatch(e.Message); m != nil {
			return failure(3819, "HY000", "Check constraint '%s' is violated.", m[1])
		}
	case 1062:
		m := key.FindStringSubmatchIndex(e.Message)
		if table := into.FindStringSubmatch(query); m != nil && table != nil {
			return failure(1062, "23000", "%s", e.Message[:m[2]]+table[1]+"."+e.Message[m[2]:])
		}
	case 1064:
		return failure(1064, "42000", "%s", strings.ReplaceAll(e.Message, "MariaDB", "MySQL"))
	}
	return err
}
