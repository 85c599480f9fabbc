// Package starter writes the first files of a program that encrypts columns of a table
// which exists: records, a command line, a configuration file and a migration.
package starter

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// Table is a table of a database.
type Table struct {
	Name    string
	Columns []Column
}

// Column is a column as the database describes it.
type Column struct {
	Name    string
	Type    string // as in a definition, such as "character varying(20)"
	NotNull bool
	Primary bool
}

// schemas are the queries for the columns of a database: table, column, type, whether
// it is NOT NULL and part of the primary key.
var schemas = map[field.Dialect]string{
	field.Postgres: `SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, coalesce(a.attnum = ANY (i.indkey), false)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
		WHERE c.relkind IN ('r', 'p') ORDER BY c.relname, a.attnum`,
	field.MySQL: `SELECT table_name, column_name, column_type, is_nullable = 'NO', column_key = 'PRI' FROM information_schema.columns
		WHERE table_schema = database() ORDER BY table_name, ordinal_position`,
	field.SQLite: `SELECT m.name, p.name, p.type, p."notnull", p.pk > 0 FROM sqlite_master m JOIN pragma_table_info(m.name) p
		WHERE m.type = 'table' ORDER BY m.name, p.cid`,
}

// Tables reads the tables of the current schema, in order of their names.
func Tables(ctx context.Context, db *sql.DB, dialect field.Dialect) ([]Table, error) {
	query, ok := schemas[dialect]
	if !ok {
		return nil, fmt.Errorf("%w: unknown dialect %q", kmsencrypted.ErrConfig, dialect)
	}
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Table
	for rows.Next() {
		var table string
		var c Column
		if err := rows.Scan(&table, &c.Name, &c.Type, &c.NotNull, &c.Primary); err != nil {
			return nil, err
		}
		if len(all) == 0 || all[len(all)-1].Name != table {
			all = append(all, Table{Name: table})
		}
		t := &all[len(all)-1]
		t.Columns = append(t.Columns, c)
	}
	return all, rows.Err()
}

// Column returns the column of a name.
func (t Table) Column(name string) (Column, bool) {
	for _, c := range t.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return Column{}, false
}
