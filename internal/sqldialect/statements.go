package sqldialect

import (
	"database/sql"
	"slices"
	"strings"
)

// Table is the table of a model.
type Table struct {
	Dialect
	Name string
	IDs  []string // columns of the primary key
}

// Insert is an INSERT of so many rows.
func (t Table) Insert(columns []string, rows int) string {
	return t.insert(columns, rows).String()
}

// InsertReturning returns an INSERT that returns the first id column.
func (t Table) InsertReturning(columns []string, rows int) string {
	s := t.insert(columns, rows)
	s.Add(" RETURNING ")
	s.Name(t.IDs[0])
	return s.String()
}

// InsertTelling is an INSERT that returns columns as the database has them. MySQL and an
// old MariaDB return no row.
func (t Table) InsertTelling(told, columns []string, rows int) string {
	s := t.insert(columns, rows)
	begin, end := " RETURNING ", ""
	if t.Dialect == MySQL {
		begin, end = " /*M!100500 RETURNING ", " */"
	}
	s.Add(begin)
	s.Names(told)
	s.Add(end)
	return s.String()
}

func (t Table) insert(columns []string, rows int) *Statement {
	s := t.Dialect.Statement(t.Strict("INSERT INTO "))
	s.Grow(64 + len(columns)*(32+rows*len("$1234, ")))
	s.Table(t.Name)
	if len(columns) == 0 && t.Dialect != MySQL {
		s.Add(" DEFAULT VALUES") // of one row
		return s
	}
	s.Add(" (")
	s.Names(columns)
	s.Add(")")
	if t.Dialect == Postgres && slices.ContainsFunc(t.IDs, func(id string) bool { return slices.Contains(columns, id) }) {
		// An id that is given counts, also where it is GENERATED ALWAYS.
		s.Add(" OVERRIDING SYSTEM VALUE")
	}
	s.Add(" VALUES ")
	s.Each(rows, ", ", func(int) { s.Marks(len(columns)) })
	return s
}

// NextIDs returns a query that asks PostgreSQL for ids before the rows exist, from
// the sequence of a serial or identity column. The argument is the number of ids.
// The query returns NULL if there is no such sequence or no permission to use it.
func (t Table) NextIDs() string {
	s := t.Dialect.Statement("SELECT CASE WHEN has_sequence_privilege(s, 'USAGE') THEN nextval(s) END FROM (SELECT pg_get_serial_sequence(")
	table := t.Dialect.Statement()
	table.Table(t.Name)
	s.Add(text(table.String()), ", ", text(t.IDs[0]), ")::regclass AS s) AS sequence, generate_series(1, ")
	s.Mark()
	s.Add(")")
	return s.String()
}

// text returns a string constant of PostgreSQL, valid for any
// standard_conforming_strings.
func text(s string) string {
	quoted := []byte("E'")
	for _, c := range []byte(s) {
		if c == '\'' || c == '\\' {
			quoted = append(quoted, c)
		}
		quoted = append(quoted, c)
	}
	return string(append(quoted, '\''))
}

// Update returns an UPDATE of one row; [Matched] reads its result. The arguments
// are the new values, the id, and the values that the columns in same must still
// hold.
func (t Table) Update(set []string, same []Condition) string {
	s := t.Dialect.Statement(t.Strict("UPDATE "))
	s.Grow(128 + 32*(len(set)+len(same)))
	s.Table(t.Name)
	s.Add(" SET ")
	if t.Dialect == MySQL {
		s.tellMatch(set[0])
	}
	s.Each(len(set), ", ", func(i int) {
		s.Name(set[i])
		s.Add(" = ")
		s.Mark()
	})
	s.Where(t.IDs, same...)
	return s.String()
}

// tellMatch adds an assignment that changes nothing. MariaDB and MySQL count rows that
// changed, but a row that matched and held the very values is no conflict. This is
// evaluated for each row that matches, and the server reports it even where nothing
// changed. The new value stands in an assignment of its own: inside the IF, MySQL
// would take its bytes for the column's character set.
func (s *Statement) tellMatch(column string) {
	s.Name(column)
	s.Add(" = IF(LAST_INSERT_ID(1), ")
	s.Name(column)
	s.Add(", NULL), ")
}

// Matched reports whether an [Table.Update] found its row. Where the server
// [Table.CountsChanges] it also finds none if nothing changed in a table with triggers.
func (t Table) Matched(result sql.Result) (bool, error) {
	n, err := result.RowsAffected()
	if n == 0 && err == nil && t.CountsChanges() {
		n, err = result.LastInsertId() // which triggers reset
	}
	return n > 0, err
}

// CountsChanges reports whether the server counts rows that changed, not rows that an
// UPDATE found.
func (t Table) CountsChanges() bool { return t.Dialect == MySQL }

// UpdateMany returns an UPDATE of several rows at once in MariaDB, if their
// columns in empty are NULL. The arguments are for each row its id and the new
// values.
func (t Table) UpdateMany(set, empty []string, rows int) string {
	columns := slices.Concat(t.IDs, set)
	s := t.Dialect.Statement(t.Strict("UPDATE "))
	s.Table(t.Name)
	// The empty SELECT gives the columns their types: of the arguments alone,
	// bytes would be taken for text.
	s.Add(" AS t JOIN (SELECT ")
	s.Names(columns)
	s.Add(" FROM ")
	s.Table(t.Name)
	s.Add(" WHERE FALSE")
	for range rows {
		s.Add(" UNION ALL SELECT ")
		s.Each(len(columns), ", ", func(int) { s.Mark() })
	}
	s.Add(") AS v ON ")
	s.Each(len(t.IDs), " AND ", func(i int) { s.pair(t.IDs[i]) })
	s.Add(" SET ")
	s.Each(len(set), ", ", func(i int) { s.pair(set[i]) })
	for i, column := range empty {
		s.Add([]string{" WHERE ", " AND "}[min(i, 1)], "t.")
		s.Name(column)
		s.Add(" IS NULL")
	}
	return s.String()
}

// pair adds t.column = v.column.
func (s *Statement) pair(column string) {
	s.Add("t.")
	s.Name(column)
	s.Add(" = v.")
	s.Name(column)
}

// Select returns a SELECT of columns of one row as they are now. Without columns
// it checks whether the row exists. The argument is the id.
func (t Table) Select(columns []string) string {
	s := t.selects(columns)
	s.Where(t.IDs)
	return t.asNow(s)
}

// SelectIf returns a SELECT that finds a row as it is now if its columns hold what they
// held. The arguments are the id, and the values of the columns.
func (t Table) SelectIf(same []Condition) string {
	s := t.selects(nil)
	s.Where(t.IDs, same...)
	return t.asNow(s)
}

// TellMatch adds an assignment to an UPDATE of somebody else that sets a column in
// MariaDB and MySQL, so that [Table.Matched] can read its result.
func (t Table) TellMatch(update, column string) string {
	if t.Dialect != MySQL {
		return update
	}
	s := t.Dialect.Statement(" SET ")
	s.tellMatch(column)
	return strings.Replace(update, " SET ", s.String(), 1)
}

// SelectRows returns a SELECT of columns of so many rows as they are now. The
// arguments are the ids.
func (t Table) SelectRows(columns []string, rows int) string {
	if rows == 1 {
		return t.Select(columns)
	}
	s := t.selects(columns)
	s.Add(" WHERE (")
	s.Names(t.IDs)
	s.Add(") IN (")
	if t.Dialect == SQLite && len(t.IDs) > 1 {
		s.Add("VALUES ")
	}
	s.Each(rows, ", ", func(int) { s.Marks(len(t.IDs)) })
	s.Add(")")
	return t.asNow(s)
}

func (t Table) selects(columns []string) *Statement {
	s := t.Dialect.Statement("SELECT ")
	if len(columns) == 0 {
		s.Add("1")
	}
	s.Names(columns)
	s.Add(" FROM ")
	s.Table(t.Name)
	return s
}

// asNow reads rows as they are now.
func (t Table) asNow(s *Statement) string {
	if t.Dialect == MySQL {
		// Else a transaction would be shown the row as it was when it began.
		s.Add(" LOCK IN SHARE MODE")
	}
	return s.String()
}

// Delete returns a DELETE of one row. The argument is the id.
func (t Table) Delete() string {
	s := t.Dialect.Statement("DELETE FROM ")
	s.Table(t.Name)
	s.Where(t.IDs)
	return s.String()
}
