package sqldialect

import (
	"database/sql"
	"slices"
)

// Table is the table of a model.
type Table struct {
	Dialect
	Name string
	IDs  []string // columns of the primary key
}

func (t Table) statement(verb string) *statement {
	s := &statement{dialect: t.Dialect}
	s.add(verb)
	return s
}

// Insert is an INSERT of so many rows.
func (t Table) Insert(columns []string, rows int) string {
	return t.insert(columns, rows).String()
}

// InsertReturning is an INSERT that returns the first id column.
func (t Table) InsertReturning(columns []string, rows int) string {
	s := t.insert(columns, rows)
	s.add(" RETURNING ")
	s.name(t.IDs[0])
	return s.String()
}

func (t Table) insert(columns []string, rows int) *statement {
	s := t.statement("INSERT INTO ")
	s.Grow(64 + len(columns)*(32+rows*len("$1234, ")))
	s.table(t.Name)
	if len(columns) == 0 && t.Dialect != MySQL {
		s.add(" DEFAULT VALUES") // of one row
		return s
	}
	s.add(" (")
	s.list(columns, s.name)
	s.add(")")
	if t.Dialect == Postgres && slices.ContainsFunc(t.IDs, func(id string) bool { return slices.Contains(columns, id) }) {
		// An id that is given counts, also where it is GENERATED ALWAYS.
		s.add(" OVERRIDING SYSTEM VALUE")
	}
	s.add(" VALUES ")
	for i := range rows {
		if i > 0 {
			s.add(", ")
		}
		s.add("(")
		s.list(columns, func(string) { s.arg() })
		s.add(")")
	}
	return s
}

// NextIDs asks PostgreSQL for ids before the rows are there: from the sequence
// of a serial or identity column. The argument is how many. NULL comes back
// where there is no such sequence or no right to use it.
func (t Table) NextIDs() string {
	s := t.statement("SELECT CASE WHEN has_sequence_privilege(s, 'USAGE') THEN nextval(s) END FROM (SELECT pg_get_serial_sequence(")
	table := &statement{dialect: t.Dialect}
	table.table(t.Name)
	s.add(text(table.String()), ", ", text(t.IDs[0]), ")::regclass AS s) AS sequence, generate_series(1, ")
	s.arg()
	s.add(")")
	return s.String()
}

// text is a string constant of PostgreSQL, whatever standard_conforming_strings says.
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

// Update is an UPDATE of one row; [Matched] reads its result. Arguments: the new
// values, the id, what the columns in same must still hold.
func (t Table) Update(set []string, same []Condition) string {
	s := t.statement("UPDATE ")
	s.Grow(128 + 32*(len(set)+len(same)))
	s.table(t.Name)
	s.add(" SET ")
	first := t.Dialect == MySQL
	s.list(set, func(column string) {
		s.name(column)
		s.add(" = ")
		if first {
			// MariaDB counts rows that changed, but a row that matched and held
			// the very values is no conflict. This is evaluated for each row that
			// matches, and the server reports it even where nothing changed.
			first = false
			s.add("IF(LAST_INSERT_ID(1), ")
			s.arg()
			s.add(", NULL)")
			return
		}
		s.arg()
	})
	s.where(t.IDs, same)
	return s.String()
}

// Matched reports whether an [Table.Update] found its row.
func (t Table) Matched(result sql.Result) (bool, error) {
	count := result.RowsAffected
	if t.Dialect == MySQL {
		count = result.LastInsertId
	}
	n, err := count()
	return n > 0, err
}

// UpdateMany is an UPDATE of so many rows at once in MariaDB, if their columns in
// empty are NULL. Arguments: for each row its id and the new values.
func (t Table) UpdateMany(set, empty []string, rows int) string {
	columns := slices.Concat(t.IDs, set)
	s := t.statement("UPDATE ")
	s.table(t.Name)
	// The empty SELECT gives the columns their types: of the arguments alone,
	// bytes would be taken for text.
	s.add(" AS t JOIN (SELECT ")
	s.list(columns, s.name)
	s.add(" FROM ")
	s.table(t.Name)
	s.add(" WHERE FALSE")
	for range rows {
		s.add(" UNION ALL SELECT ")
		s.list(columns, func(string) { s.arg() })
	}
	s.add(") AS v ON ")
	s.join(" AND ", t.IDs, func(id string) { s.pair(id) })
	s.add(" SET ")
	s.list(set, func(column string) { s.pair(column) })
	for i, column := range empty {
		s.add([]string{" WHERE ", " AND "}[min(i, 1)], "t.")
		s.name(column)
		s.add(" IS NULL")
	}
	return s.String()
}

// pair adds t.column = v.column.
func (s *statement) pair(column string) {
	s.add("t.")
	s.name(column)
	s.add(" = v.")
	s.name(column)
}

// Select reads columns of one row as they are now; with none it tells whether
// the row is there. The argument is the id.
func (t Table) Select(columns []string) string {
	s := t.statement("SELECT ")
	if len(columns) == 0 {
		s.add("1")
	}
	s.list(columns, s.name)
	s.add(" FROM ")
	s.table(t.Name)
	s.where(t.IDs, nil)
	if t.Dialect == MySQL {
		// Else a transaction would be shown the row as it was when it began.
		s.add(" LOCK IN SHARE MODE")
	}
	return s.String()
}

// Delete is a DELETE of one row. The argument is the id.
func (t Table) Delete() string {
	s := t.statement("DELETE FROM ")
	s.table(t.Name)
	s.where(t.IDs, nil)
	return s.String()
}
