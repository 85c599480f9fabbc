package sqlstore

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jmoiron/sqlx"
)

// forThisTransaction prevents the planner from reading the whole table for each
// batch, and limits how long the batch waits for a lock; it is then tried again.
const forThisTransaction = `SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
	set_config('lock_timeout', '5s', true), set_config('statement_timeout', '60s', true)`

// updateAll makes the updates of a batch with one statement in PostgreSQL: one
// array for each column, all unnested together.
func (s *Store[R]) updateAll(ctx context.Context, tx *sqlx.Tx, w *swap) error {
	if _, err := tx.ExecContext(ctx, forThisTransaction); err != nil {
		return err
	}
	v := &unnested{rows: len(w.updates), lists: s.takesLists}
	var set []string
	where := s.joinIDs(v, w.updates)
	for i, name := range w.set {
		set = append(set, s.dialect.Quoted(name)+" = "+v.add(s.types[name].name, func(row int) any { return w.updates[row].set[i] }))
	}
	for i, c := range w.same {
		compared, kind := "t."+s.dialect.Quoted(c.name), s.types[c.name].name
		if c.witness {
			compared, kind = compared+"::text", "text"
		}
		alias := v.add(kind, func(row int) any { return w.updates[row].same[i] })
		where = append(where, compared+" "+s.dialect.Same()+" "+alias)
	}
	query := "UPDATE " + s.dialect.QuotedTable(s.Table()) + " AS t SET " + strings.Join(set, ", ") +
		" FROM " + v.String() + " WHERE " + strings.Join(where, " AND ")
	if !w.which {
		result, err := tx.ExecContext(ctx, query, v.args...)
		if err != nil {
			return err
		}
		return w.allOrNone(result)
	}
	var written []int
	err := tx.SelectContext(ctx, &written, query+" RETURNING v.n", v.args...)
	for _, n := range written {
		w.written[n-1] = true
	}
	return err
}

// unnested is a table that PostgreSQL makes of arrays, one for each column. Its
// name is v, and its column n counts the rows from 1.
//
// The batches of this file and of mysql.go are not written with sqldialect.Statement:
// that writes a text from left to right with one argument for each mark, while a
// column here adds to several clauses at once, and to the derived table.
type unnested struct {
	rows            int
	lists           bool // the driver takes them
	arrays, aliases []string
	args            []any
}

// add adds a column and returns its name.
func (u *unnested) add(kind string, value func(row int) any) string {
	expression, arg := array(u.rows, kind, u.lists, value)
	u.args = append(u.args, arg)
	u.arrays = append(u.arrays, fmt.Sprintf(expression, len(u.args), kind))
	u.aliases = append(u.aliases, "c"+strconv.Itoa(len(u.args)))
	return "v." + u.aliases[len(u.aliases)-1]
}

func (u *unnested) String() string {
	return "unnest(" + strings.Join(u.arrays, ", ") + ") WITH ORDINALITY AS v(" + strings.Join(u.aliases, ", ") + ", n)"
}

// joinIDs adds the primary keys of updates and returns the conditions that join
// them with the table t.
func (s *Store[R]) joinIDs(v *unnested, updates []update) (where []string) {
	for i, c := range s.ids {
		alias := v.add(s.types[c.name].name, func(row int) any { return updates[row].id[i] })
		where = append(where, "t."+s.dialect.Quoted(c.name)+" = "+alias)
	}
	return where
}

// unnestedRows is the query for columns of the rows of a batch in PostgreSQL.
func (s *Store[R]) unnestedRows(updates []update, columns string) (query string, args []any) {
	v := &unnested{rows: len(updates), lists: s.takesLists}
	where := s.joinIDs(v, updates)
	return "SELECT v.n, " + columns + " FROM " + v.String() + " JOIN " + s.dialect.QuotedTable(s.Table()) + " AS t ON " + strings.Join(where, " AND "), v.args
}

// insertAll inserts rows with one statement whose text does not grow with them,
// with columns of text and integers. Values that are the same in all rows are sent
// once, because unnesting arrays is a large part of the cost.
func (s *Store[R]) insertAll(ctx context.Context, tx *sqlx.Tx, table string, columns []string, values [][]any) error {
	var selected, arrays, aliases []string
	args := make([]any, len(columns))
	for i, name := range columns {
		kind := "text"
		if _, isNumber := values[0][i].(int); isNumber {
			kind = "bigint"
		}
		differs := slices.ContainsFunc(values, func(row []any) bool { return row[i] != values[0][i] })
		if !differs && (len(values) == 1 || i < len(columns)-1 || len(arrays) > 0) {
			selected, args[i] = append(selected, fmt.Sprintf("$%d::%s", i+1, kind)), values[0][i]
			continue
		}
		expression, arg := array(len(values), kind, s.takesLists, func(row int) any { return values[row][i] })
		selected, arrays, aliases = append(selected, "v."+name), append(arrays, fmt.Sprintf(expression, i+1, kind)), append(aliases, name)
		args[i] = arg
	}
	query := "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") SELECT " + strings.Join(selected, ", ")
	if len(arrays) > 0 {
		query += " FROM unnest(" + strings.Join(arrays, ", ") + ") AS v(" + strings.Join(aliases, ", ") + ")"
	}
	_, err := tx.ExecContext(ctx, query, args...)
	return err
}

// learnLists asks whether the driver takes lists as arguments: that of pgx does, which
// sends them as they are.
func (s *Store[R]) learnLists(ctx context.Context) {
	var n int
	err := s.db.GetContext(ctx, &n, "SELECT cardinality($1::text[])", []string{"a", "b"})
	s.takesLists = err == nil && n == 2
}

// array returns a PostgreSQL array of n values of a type, and the expression that reads
// it, with the number of the argument and the type. Unless the driver takes lists, it
// is a text, which every driver can send. Splitting a text takes half the time of parsing
// an array.
func array(n int, kind string, lists bool, value func(i int) any) (expression string, arg any) {
	if lists {
		if list := listOf(n, kind, value); list != nil {
			return "$%d::%s[]", list
		}
	}
	if text, ok := splitText(n, value); ok {
		return "string_to_array($%d::text, E'\\x1f', E'\\x1e')::%s[]", text
	}
	return "$%d::text::%s[]", arrayText(n, value)
}

// listOf returns the values as a list of the type, or nil if that is not certain.
func listOf(n int, kind string, value func(i int) any) any {
	switch kind {
	case "bigint":
		list := make([]int64, n)
		for i := range list {
			var ok bool
			if list[i], ok = value(i).(int64); !ok {
				return nil
			}
		}
		return list
	case "text", "character varying":
		texts, list := make([]string, n), make([]*string, n)
		nulls := false
		for i := range texts {
			v, ok := value(i), false
			if texts[i], ok = v.(string); ok {
				list[i] = &texts[i]
			} else if nulls = true; v != nil {
				return nil
			}
		}
		if nulls {
			return list
		}
		return texts
	}
	return nil
}

// splitText joins texts by a control character, if none of them contains it, and uses
// another one for NULL. No ciphertext contains either.
func splitText(n int, value func(i int) any) (joined string, ok bool) {
	const separator, null = '\x1f', '\x1e'
	b := make([]byte, 0, 64*n)
	for i := range n {
		if i > 0 {
			b = append(b, separator)
		}
		switch v := value(i).(type) {
		case nil:
			b = append(b, null)
		case string:
			if strings.IndexByte(v, separator) >= 0 || strings.IndexByte(v, null) >= 0 {
				return "", false
			}
			b = append(b, v...)
		default:
			return "", false
		}
	}
	return string(b), len(b) > 0 // of an empty text the array would have no element
}

// arrayText writes an array of anything.
func arrayText(n int, value func(i int) any) string {
	b := make([]byte, 0, 64*n)
	b = append(b, '{')
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		switch v := value(i).(type) {
		case nil:
			b = append(b, "NULL"...)
		case int:
			b = strconv.AppendInt(b, int64(v), 10)
		case int64:
			b = strconv.AppendInt(b, v, 10)
		case uint64:
			b = strconv.AppendUint(b, v, 10)
		case []byte:
			b = append(b, `"\\x`...)
			b = append(hex.AppendEncode(b, v), '"')
		case string:
			b = append(appendEscaped(append(b, '"'), v), '"')
		}
	}
	return string(append(b, '}'))
}

// appendEscaped appends a text; a ciphertext has nothing to escape.
func appendEscaped(b []byte, text string) []byte {
	for {
		at := strings.IndexAny(text, `"\`)
		if at < 0 {
			return append(b, text...)
		}
		b = append(append(b, text[:at]...), '\\', text[at])
		text = text[at+1:]
	}
}
