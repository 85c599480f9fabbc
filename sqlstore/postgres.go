package sqlstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jmoiron/sqlx"
)

// forThisTransaction keeps the planner from reading the whole table for each
// batch, and the batch from waiting for ever behind somebody's lock: it is tried
// again.
const forThisTransaction = `SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
	set_config('lock_timeout', '5s', true), set_config('statement_timeout', '60s', true)`

// updateAll makes the updates of a batch with one statement in PostgreSQL: one
// array for each column, unnested side by side.
func (s *Store[R]) updateAll(ctx context.Context, tx *sqlx.Tx, w *swap) error {
	if _, err := tx.ExecContext(ctx, forThisTransaction); err != nil {
		return err
	}
	var arrays, aliases, set, where []string
	var args []any
	// array adds a column of the unnested table and returns its name.
	array := func(kind string, value func(update) any) string {
		args = append(args, arrayText(len(w.updates), func(row int) any { return value(w.updates[row]) }))
		arrays = append(arrays, fmt.Sprintf("$%d::text::%s[]", len(args), kind))
		alias := "c" + strconv.Itoa(len(args))
		aliases = append(aliases, alias)
		return alias
	}
	for i, c := range s.ids {
		alias := array(s.types[c.name].name, func(u update) any { return u.id[i] })
		where = append(where, "t."+s.dialect.Quoted(c.name)+" = v."+alias)
	}
	for i, name := range w.set {
		alias := array(s.types[name].name, func(u update) any { return u.set[i] })
		set = append(set, s.dialect.Quoted(name)+" = v."+alias)
	}
	for i, c := range w.same {
		compared, kind := "t."+s.dialect.Quoted(c.name), s.types[c.name].name
		if c.witness {
			compared, kind = compared+"::text", "text"
		}
		alias := array(kind, func(u update) any { return u.same[i] })
		where = append(where, compared+" "+s.dialect.Same()+" v."+alias)
	}
	var written []int
	err := tx.SelectContext(ctx, &written, "UPDATE "+s.dialect.QuotedTable(s.Table())+" AS t SET "+strings.Join(set, ", ")+
		" FROM unnest("+strings.Join(arrays, ", ")+") WITH ORDINALITY AS v("+strings.Join(aliases, ", ")+", n)"+
		" WHERE "+strings.Join(where, " AND ")+" RETURNING v.n", args...)
	for _, n := range written {
		w.written[n-1] = true
	}
	return err
}

// insertAll inserts rows with one statement whose text does not grow with them,
// of columns that are texts and whole numbers.
func (s *Store[R]) insertAll(ctx context.Context, tx *sqlx.Tx, table string, columns []string, values [][]any) error {
	arrays, args := make([]string, len(columns)), make([]any, len(columns))
	for i := range columns {
		kind := "text"
		if _, isNumber := values[0][i].(int); isNumber {
			kind = "bigint"
		}
		arrays[i] = fmt.Sprintf("$%d::text::%s[]", i+1, kind)
		args[i] = arrayText(len(values), func(row int) any { return values[row][i] })
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO "+table+" ("+strings.Join(columns, ", ")+
		") SELECT * FROM unnest("+strings.Join(arrays, ", ")+")", args...)
	return err
}

// arrayText writes a PostgreSQL array as text, which every driver can send.
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

// sqlState is the code of an error of PostgreSQL.
func sqlState(err error) (string, bool) {
	if coded, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return coded.SQLState(), true
	}
	return "", false
}
