package kmssqlx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
	"github.com/jmoiron/sqlx/reflectx"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Ext is a [*sqlx.DB], [*sqlx.Conn] or [*sqlx.Tx]. Your own type works too. Without
// the method BeginTxx of DB and Conn it counts as a transaction.
type Ext interface {
	sqlx.QueryerContext
	sqlx.ExecerContext
	Rebind(query string) string
}

// beginner is an Ext that can begin a transaction.
type beginner interface {
	BeginTxx(ctx context.Context, opts *sql.TxOptions) (*sqlx.Tx, error)
}

// confirms reports whether a statement that succeeded is committed. A Conn may be in
// a transaction that the program began with a statement of its own.
func confirms(db Ext) bool {
	_, isConn := db.(*sqlx.Conn)
	_, ok := db.(beginner)
	return ok && !isConn
}

// session is an Ext for package records.
type session struct {
	sqldialect.Session
	db    Ext
	depth int // of transactions and savepoints of this package
}

func sessionOf(db Ext) records.DB { return session{Session: sqldialect.Of(db), db: db} }

func (s session) Commits() bool { return confirms(s.db) }

func (s session) Atomically(ctx context.Context, statements func(records.DB) error) error {
	return s.atomically(ctx, func(tx Ext) error {
		return statements(session{sqldialect.Of(tx), tx, s.depth + 1})
	})
}

// dialect finds out which database db is: by its placeholders, its driver's name, or
// its own answer.
func dialect(ctx context.Context, db Ext) (field.Dialect, error) {
	if db.Rebind("?") == "$1" {
		return field.Postgres, nil
	}
	if named, ok := db.(interface{ DriverName() string }); ok {
		if d, known := sqldialect.OfDriverName(named.DriverName()); known {
			return d, nil
		}
	}
	return askDialect(ctx, db)
}

// askDialect asks the database itself: a Conn does not name its driver, and a
// driver may have any name. A comment that begins with an exclamation mark is
// code to MariaDB and MySQL, and a text is never a number to SQLite.
func askDialect(ctx context.Context, db Ext) (field.Dialect, error) {
	const question = "SELECT CASE WHEN '1' = 1 THEN 1 ELSE 0 END /*! + 1 */"
	answers := []field.Dialect{field.SQLite, field.Postgres, field.MySQL}
	var answer int
	if err := sqlx.GetContext(ctx, db, &answer, question); err != nil {
		return "", records.Hide(err, nil)
	}
	return answers[answer], nil
}

// mapperOf returns the mapper that db uses to match columns with struct fields.
// shared is false if it was made for this call.
func mapperOf(db Ext) (m *reflectx.Mapper, shared bool) {
	switch db := db.(type) {
	case *sqlx.DB:
		return db.Mapper, true
	case *sqlx.Conn:
		return db.Mapper, true
	case *sqlx.Tx:
		return db.Mapper, true
	}
	return reflectx.NewMapperFunc("db", sqlx.NameMapper), false
}

// atomically runs all statements or none: in a transaction of its own, or under a
// savepoint if the Ext is a transaction.
func (s session) atomically(ctx context.Context, statements func(Ext) error) error {
	b, ok := s.db.(beginner)
	if !ok {
		// MariaDB and MySQL forget a savepoint when another one gets its name.
		return underSavepoint(ctx, s.db, fmt.Sprintf(" kmsencrypted%d", s.depth), statements)
	}
	tx, err := b.BeginTxx(ctx, nil)
	if err != nil {
		return records.Hide(err, nil)
	}
	defer tx.Rollback() // does nothing after Commit
	if err := statements(tx); err != nil {
		return err
	}
	return records.Hide(tx.Commit(), nil)
}

func underSavepoint(ctx context.Context, tx Ext, name string, statements func(Ext) error) error {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT"+name); err != nil {
		return records.Hide(err, nil)
	}
	if err := statements(tx); err != nil {
		// Even if ctx has ended, because the caller may commit the rest.
		if _, undo := tx.ExecContext(context.WithoutCancel(ctx), "ROLLBACK TO SAVEPOINT"+name); undo != nil {
			return errors.Join(err, fmt.Errorf("kmssqlx: roll the transaction back: %w", records.Hide(undo, nil)))
		}
		return err
	}
	_, err := tx.ExecContext(ctx, "RELEASE SAVEPOINT"+name)
	return records.Hide(err, nil)
}
