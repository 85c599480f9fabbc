// Package audit records who looked at which record's encrypted fields, and where,
// in a table of the application's own database, like Lockbox's audits. It
// complements the key service's log, which shows that a record was decrypted but
// not for whom. The application must call Log itself:
//
//	err := audit.Log(ctx, db, field.Postgres, audit.Entry{
//		Viewer: session.User, Table: "customers", ID: "7", Fields: []string{"Email"}, Place: "GET /customers/7",
//	})
//
// [Ledger] is for the exception, such as support that looks at one record for a ticket:
// [Open] wants a reason, has a limit, and writes a receipt that cannot be removed or
// changed without [Ledger.Verify] noticing.
//
// Log in the transaction that reads, or before the plaintext is shown: if the entry
// cannot be written, the plaintext must not be shown. Never put a plaintext into an
// entry.
package audit

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
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
	Reason string    // why, such as the number of a ticket; empty if nobody asks
	At     time.Time // zero means now
}

// check returns [kmsencrypted.ErrConfig] for an entry that does not say who saw what.
func (e Entry) check() error {
	if e.Viewer == "" || e.Table == "" || e.ID == "" || len(e.Fields) == 0 {
		return fmt.Errorf("%w: the entry lacks viewer, table, id or fields", kmsencrypted.ErrConfig)
	}
	return nil
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
	}, Added: []tables.Column{
		{Since: 2, Name: "reason", Type: "{text}"},
		{Since: 2, Name: "receipt", Type: "{number}"},
		{Since: 2, Name: "mac", Type: "{name}"},
	}, Indexes: []tables.Index{{Since: 2, Name: "kms_audits_receipt", Columns: "receipt", Unique: true}}},
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

// timeText is a time in UTC as text, to the microseconds that all databases keep.
const timeText = "2006-01-02 15:04:05.000000"

// timeFor is a time as an argument. SQLite keeps the text, and a driver of MySQL may be
// set to another zone.
func timeFor(d field.Dialect, at time.Time) any {
	if at = at.UTC().Truncate(time.Microsecond); d == field.Postgres {
		return at
	}
	return at.Format(timeText)
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
	// A table of an older release has no column for a reason that nobody gives.
	withReason := slices.ContainsFunc(entries, func(e Entry) bool { return e.Reason != "" })
	q := d.Statement(d.Strict("INSERT INTO "), Table, " (viewer, record_table, record_id, fields, place, viewed_at")
	if withReason {
		q.Add(", reason")
	}
	q.Add(") VALUES ")
	rows := make([][]any, len(entries))
	for i, e := range entries {
		if err := e.check(); err != nil {
			return fmt.Errorf("audit: entry %d: %w", i, err)
		}
		if e.At.IsZero() {
			e.At = time.Now()
		}
		rows[i] = []any{e.Viewer, e.Table, e.ID, strings.Join(e.Fields, ","), e.Place, timeFor(d, e.At)}
		if withReason {
			rows[i] = append(rows[i], e.Reason)
		}
	}
	q.Rows(rows)
	_, err := db.ExecContext(ctx, q.String(), q.Args...)
	return explained(err)
}
