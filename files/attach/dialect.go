package attach

import (
	"context"
	"database/sql"
	"strconv"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// Tx is what a [*sql.Tx] does for this package, and with it a transaction of
// whatever SQL library.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// dialect is what the databases write differently.
type dialect struct {
	quote  string
	dollar bool   // placeholders are numbered
	now    string // milliseconds since 1970, by the clock of the database
	lock   string // ends a SELECT whose rows nobody else may change meanwhile
	// Types of columns: a text that may be a key and is compared byte by byte, a
	// longer text, an integer.
	name, text, number string
}

var dialects = map[field.Dialect]dialect{
	field.Postgres: {
		quote: `"`, dollar: true, lock: " FOR UPDATE",
		now:  "(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
		name: "text", text: "text", number: "bigint",
	},
	field.MySQL: {
		quote: "`", lock: " FOR UPDATE",
		now:  "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
		name: "varchar(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", text: "text CHARACTER SET utf8mb4", number: "bigint",
	},
	// One transaction writes at a time; whoever means to has written before it reads.
	field.SQLite: {
		quote: "`",
		now:   "CAST((julianday('now') - 2440587.5) * 86400000 AS integer)",
		name:  "text", text: "text", number: "integer",
	},
}

func dialectOf(d field.Dialect) (dialect, error) {
	known, ok := dialects[d]
	if !ok {
		return known, configError("unknown dialect %q", d)
	}
	return known, nil
}

// sql finishes a statement: ? are its arguments, {now} and {lock} what the
// database calls so.
func (d dialect) sql(query string) string {
	query = strings.NewReplacer("{now}", d.now, "{lock}", d.lock).Replace(query)
	if !d.dollar {
		return query
	}
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("$" + strconv.Itoa(n))
		query = after
	}
}

func (d dialect) quoted(name string) string {
	return d.quote + strings.ReplaceAll(name, d.quote, d.quote+d.quote) + d.quote
}

// table quotes the name of a table, which may have a schema before a dot.
func (d dialect) table(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		parts[i] = d.quoted(part)
	}
	return strings.Join(parts, ".")
}

// exec reports whether a statement changed any row.
func (d dialect) exec(ctx context.Context, db Tx, query string, args ...any) (changed bool, err error) {
	result, err := db.ExecContext(ctx, d.sql(query), args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// tables are the definitions, with {name}, {text} and {number} for types. An
// object belongs to one attachment.
var tables = []string{
	`CREATE TABLE IF NOT EXISTS kms_attachments (
	id {name} NOT NULL PRIMARY KEY,
	record_table {name} NOT NULL,
	record_id {name} NOT NULL,
	name {name} NOT NULL,
	variant {name} NOT NULL,
	parent_id {name} NOT NULL,
	bucket {name} NOT NULL,
	object {name} NOT NULL,
	format {name} NOT NULL,
	file_id {name} NOT NULL,
	wrapped_key {text} NOT NULL,
	size {number} NOT NULL,
	object_size {number} NOT NULL,
	file_name {text} NOT NULL,
	content_type {text} NOT NULL,
	created {number} NOT NULL,
	UNIQUE (bucket, object),
	UNIQUE (record_table, record_id, id)
)`,
	`CREATE TABLE IF NOT EXISTS kms_attachment_objects (
	bucket {name} NOT NULL,
	object {name} NOT NULL,
	state {name} NOT NULL,
	until {number} NOT NULL,
	PRIMARY KEY (bucket, object)
)`,
}

// Tables returns the definitions of the tables of attachments, kms_attachments
// and kms_attachment_objects, for a migration. They do nothing to tables that are
// there. The error is [kmsencrypted.ErrConfig] for an unknown dialect.
func Tables(d field.Dialect) ([]string, error) {
	known, err := dialectOf(d)
	if err != nil {
		return nil, err
	}
	types := strings.NewReplacer("{name}", known.name, "{text}", known.text, "{number}", known.number)
	definitions := make([]string, len(tables))
	for i, definition := range tables {
		definitions[i] = types.Replace(definition)
	}
	return definitions, nil
}
