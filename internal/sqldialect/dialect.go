// Package sqldialect says how the SQL of PostgreSQL, of MariaDB and MySQL, and of
// SQLite differs, and writes the few statements that storing a record takes. It
// makes text only; arguments stand in the order in which the names were given.
package sqldialect

import (
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
)

// Dialect is the SQL of one kind of database. The zero value is none.
type Dialect string

const (
	Postgres Dialect = "postgres"
	MySQL    Dialect = "mysql" // and MariaDB
	SQLite   Dialect = "sqlite"
)

// dialects says where they differ, as far as several packages need it. What only
// one package needs is there, in a table of its own by dialect.
var dialects = map[Dialect]struct {
	quote   string // in statements
	define  string // the quote in definitions, which people read and keep
	same    string // a comparison in which NULL equals NULL
	maxArgs int    // in one statement
	now     string // milliseconds since 1970, by the clock of the database
	lock    string // ends a SELECT whose rows nobody else may change meanwhile
}{
	Postgres: {`"`, `"`, "IS NOT DISTINCT FROM", 65535, "(extract(epoch FROM clock_timestamp()) * 1000)::bigint", " FOR UPDATE"},
	MySQL:    {"`", "`", "<=>", 65535, "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)", " FOR UPDATE"},
	// SQLite takes "x" for a text where no column has that name, but `x` never. It
	// has one writer at a time; whoever means to write has done so before it reads.
	SQLite: {"`", `"`, "IS", 32766, "CAST((julianday('now') - 2440587.5) * 86400000 AS integer)", ""},
}

// Check returns [kmsencrypted.ErrConfig] unless the dialect is one of those above.
func (d Dialect) Check() error {
	if _, ok := dialects[d]; !ok {
		return fmt.Errorf("%w: unknown dialect %q", kmsencrypted.ErrConfig, string(d))
	}
	return nil
}

// maxRows limits one INSERT: a longer statement is not faster.
const maxRows = 1000

// RowsPerInsert returns how many rows of a number of columns fit into one
// statement.
func (d Dialect) RowsPerInsert(columns int) int {
	return max(1, min(maxRows, dialects[d].maxArgs/max(1, columns)))
}

// HasSequences reports whether ids are available before the rows: [Table.NextIDs].
func (d Dialect) HasSequences() bool { return d == Postgres }

// AsksMany asks MariaDB whether an INSERT of many rows can tell their ids: 2 if
// RETURNING gives them, in the order of the VALUES, 1 if the server is MySQL or an
// old MariaDB. Elsewhere there is no question: PostgreSQL does not promise the
// order, SQLite denies it.
func (d Dialect) AsksMany() (question string, ok bool) {
	return "SELECT 1 /*M!100500 + 1 */", d == MySQL // a comment to everybody else
}

// HasLastInsertID reports whether the result of an INSERT has the id. MySQL has
// no other way.
func (d Dialect) HasLastInsertID() bool { return d == MySQL }
