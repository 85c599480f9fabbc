package attach

import (
	"context"
	"database/sql"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
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
	sqldialect.Dialect
	lock string // ends a SELECT whose rows nobody else may change meanwhile
	// Types of columns: a text that may be a key and is compared byte by byte, a
	// longer text, an integer.
	name, text, number string
}

var dialects = map[field.Dialect]dialect{
	field.Postgres: {sqldialect.Postgres, " FOR UPDATE", "text", "text", "bigint"},
	field.MySQL: {sqldialect.MariaDB, " FOR UPDATE",
		"varchar(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "text CHARACTER SET utf8mb4", "bigint"},
	// One transaction writes at a time; whoever means to has written before it reads.
	field.SQLite: {sqldialect.SQLite, "", "text", "text", "integer"},
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
	return d.Placeholders(strings.NewReplacer("{now}", d.Now(), "{lock}", d.lock).Replace(query))
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
