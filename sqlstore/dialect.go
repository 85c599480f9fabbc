package sqlstore

import (
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// dialects holds the differences between the databases that only this package needs.
var dialects = map[field.Dialect]struct {
	// prefix is the text up to the first colon, with %s for the column.
	prefix string
	// hasTable counts the tables that an unqualified name refers to.
	hasTable string
	micros   string // since 1970, by the clock of the database
	// returns means that UPDATE has RETURNING.
	returns bool
	// witnessed is an expression for the text of a value, with %s for the column. Two
	// texts are equal if and only if the values are.
	witnessed string
	// columnTypes asks for the name, type and collation of the columns of a table;
	// its arguments are those of typesOf.
	columnTypes string
	// schemas asks for the schema of the table and that of the ledger, which may not
	// exist yet; its arguments are those of typesOf.
	schemas string
	// rowsAbout asks the statistics for the number of rows of a table; its arguments are
	// those of typesOf. It is empty for a database without.
	rowsAbout string
	// comparesRows means that (a, b) > (x, y) uses the index.
	comparesRows bool
	// readCommitted means that this isolation level can be requested.
	readCommitted bool
}{
	field.Postgres: {
		prefix:    "left(%[1]s, strpos(%[1]s, ':'))",
		witnessed: "%s::text",
		// Without a length, because a cast to one would truncate values.
		columnTypes: `SELECT attname AS "Name", format_type(atttypid, -1) AS "Type", '' AS "Collation"
			FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped`,
		schemas: `SELECT relnamespace::regnamespace::text AS "Own",
			coalesce((SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('kms_rotations')), quote_ident(current_schema()), '') AS "Ledger"
			FROM pg_class WHERE oid = $1::text::regclass`,
		// As the planner estimates: the density of the last ANALYZE times the size now. What is
		// counted with each change may count rows twice after an ANALYZE, and serves only a
		// table without one. A table that others inherit from is counted.
		rowsAbout: `SELECT coalesce(sum(CASE WHEN c.reltuples > 0 AND c.relpages > 0
				THEN c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::int)
				ELSE pg_stat_get_live_tuples(c.oid) END), 0)::bigint FROM pg_class c
			WHERE c.relkind = 'r' AND (c.oid = $1::text::regclass AND NOT c.relhassubclass OR c.oid IN (SELECT relid FROM pg_partition_tree($1::text::regclass)))`,
		micros:       "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
		returns:      true,
		hasTable:     "SELECT count(to_regclass(?))",
		comparesRows: true, readCommitted: true,
	},
	field.MySQL: {
		prefix:    "left(%[1]s, locate(':', %[1]s))",
		witnessed: "CAST(%s AS BINARY)",
		micros:    "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)",
		columnTypes: "SELECT column_name AS `Name`, concat(data_type, CASE WHEN data_type = 'decimal' THEN concat('(', numeric_precision, ',', numeric_scale, ')') ELSE '' END, CASE WHEN column_type LIKE '%unsigned%' THEN ' unsigned' ELSE '' END) AS `Type`, coalesce(collation_name, '') AS `Collation` " +
			"FROM information_schema.columns WHERE table_schema = coalesce(?, database()) AND table_name = ?",
		rowsAbout:     "SELECT coalesce(max(table_rows), 0) FROM information_schema.tables WHERE table_schema = coalesce(?, database()) AND table_name = ? AND table_type = 'BASE TABLE'",
		schemas:       "SELECT table_schema AS `Own`, coalesce(database(), '') AS `Ledger` FROM information_schema.tables WHERE table_schema = coalesce(?, database()) AND table_name = ?",
		hasTable:      "SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = ?",
		readCommitted: true,
	},
	field.SQLite: {
		prefix:       "substr(%[1]s, 1, instr(%[1]s, ':'))",
		columnTypes:  `SELECT name AS "Name", type AS "Type", '' AS "Collation" FROM pragma_table_xinfo(?2, ?1)`,
		micros:       "CAST((julianday('now') - 2440587.5) * 86400000000 AS integer)",
		returns:      true,
		witnessed:    "CAST(%s AS blob)",
		schemas:      `SELECT ?1 AS "Own", 'main' AS "Ledger"`,
		hasTable:     "SELECT count(*) FROM sqlite_master WHERE type IN ('table', 'view') AND name = ?",
		comparesRows: true,
	},
}

// typesOf are the arguments of columnTypes.
func typesOf(d field.Dialect, table string) []any {
	if d == field.Postgres {
		return []any{d.QuotedTable(table)}
	}
	schema, name, qualified := strings.Cut(table, ".")
	switch {
	case qualified:
		return []any{schema, name}
	case d == field.SQLite:
		return []any{"main", table}
	}
	return []any{nil, table}
}

// witness returns the expression for a column's text, for comparisons.
func witness(d field.Dialect, column string) string {
	return fmt.Sprintf(dialects[d].witnessed, d.Quoted(column))
}

// compare adds (columns) op (values), where op is > or <=.
func compare(s *sqldialect.Statement, columns []string, op string, values []any) {
	if len(columns) > 1 && !dialects[s.Dialect].comparesRows {
		spellOut(s, columns, op, values)
		return
	}
	s.Add("(")
	s.Names(columns)
	s.Add(") ", op, " ")
	s.Row(values...)
}

// spellOut is compare for MariaDB and MySQL, which read the whole index for a
// comparison of rows: a >= x AND (a > x OR a = x AND b > y).
func spellOut(s *sqldialect.Statement, columns []string, op string, values []any) {
	first := s.Dialect.Quoted(columns[0])
	if len(columns) == 1 {
		s.Add(first, " ", op, " ")
		s.Arg(values[0])
		return
	}
	strict := op[:1]
	s.Add(first, " ", strict, "= ")
	s.Arg(values[0])
	s.Add(" AND (", first, " ", strict, " ")
	s.Arg(values[0])
	s.Add(" OR ", first, " = ")
	s.Arg(values[0])
	s.Add(" AND (")
	spellOut(s, columns[1:], op, values[1:])
	s.Add("))")
}
