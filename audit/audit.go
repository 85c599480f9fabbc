// Package audit records who looked at which record's encrypted fields, and where,
// in a table of the application's own database, like Lockbox's audits. It
// complements the key service's log, which shows that a record was decrypted but
// not for whom. The application must call Log itself:
//
//	err := audit.Log(ctx, db, field.Postgres, audit.Entry{
//		Viewer: session.User, Table: "customers", ID: "7", Fields: []string{"Email"}, Place: "GET /customers/7",
//	})
//
// Log in the transaction that reads, or before the plaintext is shown: if the entry
// cannot be written, the plaintext must not be shown. Never put a plaintext into an
// entry.
package audit

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
	"github.com/kmsencrypted/kmsencrypted/internal/tables"
)

// Table is the name of the table that [CreateTables] creates.
const Table = "kms_audits"

// Entry records that somebody looked at fields of a record.
type Entry struct {
	Viewer string    // who, such as the id of a user
	Table  string    // of the record
	ID     string    // the record's primary key
	Fields []string  // names of the fields
	Place  string    // where: an address, a job, a console
	At     time.Time // zero means now
}

// Execer is a *sql.DB, *sql.Tx or *sql.Conn, or a type of sqlx that embeds one.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

var ownTables = tables.Set{Name: "audits", Tables: []tables.Table{
	{Name: Table, Body: []string{
		"viewer varchar(255) NOT NULL",
		"record_table varchar(255) NOT NULL",
		"record_id varchar(255) NOT NULL",
		"fields text NOT NULL",
		"place text NOT NULL",
		"viewed_at {time} NOT NULL",
	}},
}}

// Tables returns the statements that create the table kms_audits, for a migration,
// and kms_tables, which records its version. Running the statements again changes
// nothing. Tables returns [kmsencrypted.ErrConfig] for an unknown dialect.
func Tables(d field.Dialect) ([]string, error) {
	statements, err := ownTables.DDL(d)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return statements, nil
}

// CreateTables creates the table of [Tables] if it is missing, and adds what the
// table of an older release lacks. The older release can still use it.
func CreateTables(ctx context.Context, db *sql.DB, d field.Dialect) error {
	if err := tables.Create(ctx, db, d, ownTables); err != nil {
		return fmt.Errorf("audit: create the table of audits: %w", err)
	}
	return nil
}

// Log writes entries in one statement. It returns [kmsencrypted.ErrConfig] for an
// entry without viewer, table, id or fields, and then writes nothing.
func Log(ctx context.Context, db Execer, d field.Dialect, entries ...Entry) error {
	if missing.Is(db) {
		return fmt.Errorf("audit: %w: the database is nil", kmsencrypted.ErrConfig)
	}
	if len(entries) == 0 {
		return nil
	}
	if err := d.Check(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	q := d.Statement(d.Strict("INSERT INTO "), Table, " (viewer, record_table, record_id, fields, place, viewed_at) VALUES ")
	rows := make([][]any, len(entries))
	for i, e := range entries {
		if e.Viewer == "" || e.Table == "" || e.ID == "" || len(e.Fields) == 0 {
			return fmt.Errorf("audit: %w: entry %d lacks viewer, table, id or fields", kmsencrypted.ErrConfig, i)
		}
		if e.At.IsZero() {
			e.At = time.Now()
		}
		var at any = e.At.UTC()
		if d == field.SQLite {
			at = e.At.UTC().Format("2006-01-02 15:04:05.000000")
		}
		rows[i] = []any{e.Viewer, e.Table, e.ID, strings.Join(e.Fields, ","), e.Place, at}
	}
	q.Rows(rows)
	_, err := db.ExecContext(ctx, q.String(), q.Args...)
	return err
}
