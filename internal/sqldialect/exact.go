package sqldialect

import "strings"

// A collation may take "a" for "A" and for "a ", which are two tenants to a program.
// Columns of such texts are compared by their characters. [Dialect.Exact] has the
// two sides of the comparison.

// exact are the texts of both sides, with %s for the column and a blank where the
// value stands.
var exact = map[Dialect]struct{ column, before, after string }{
	// The value is cast to the type of the column first: a char(n) ignores spaces at
	// its end, and a uuid has one form. Then both are texts.
	Postgres: {`%s::text COLLATE "C"`, `(CASE WHEN FALSE THEN %s ELSE `, ` END)::text COLLATE "C"`},
	// Every collation of texts may ignore spaces at the end, utf8mb4_bin too.
	MySQL:  {"CAST(CONVERT(%s USING utf8mb4) AS BINARY)", "CAST(CONVERT(", " USING utf8mb4) AS BINARY)"},
	SQLite: {"%s COLLATE BINARY", "", ""},
}

// Exact returns what to compare instead of a quoted column, and what to write before
// and after the value, so that texts are equal only if all their characters are.
func (d Dialect) Exact(column string) (compared, before, after string) {
	e := exact[d]
	in := func(s string) string { return strings.ReplaceAll(s, "%s", column) }
	return in(e.column), in(e.before), e.after
}
