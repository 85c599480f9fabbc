package sqlstore

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"
)

// hasJSONTable reports whether the server has JSON_TABLE: MariaDB from 10.6 and MySQL
// from 8.0. It makes a table of a JSON text, so that a batch is one statement with one
// argument.
func (s *Store[R]) hasJSONTable(ctx context.Context) bool {
	var n int
	err := s.db.GetContext(ctx, &n, `SELECT count(*) FROM JSON_TABLE('[[1]]', '$[*]' COLUMNS (c INT PATH '$[0]')) AS v`)
	return err == nil && n == 1
}

// boundWaits limits how long a batch waits for the locks of others. It changes the
// session; resetWaits undoes it after the batch.
//
// MariaDB bounds a statement as well. MySQL has no such bound for an UPDATE: its
// max_execution_time is for SELECT alone.
const (
	boundWaits = `SET @kms_rotation_lock_wait = @@innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout = 5
		/*M!100101 , @kms_rotation_statement = @@max_statement_time, SESSION max_statement_time = 60 */`
	resetWaits = `SET SESSION innodb_lock_wait_timeout = @kms_rotation_lock_wait
		/*M!100101 , SESSION max_statement_time = @kms_rotation_statement */`
)

// updateJoined makes the updates of a batch in MariaDB and MySQL with one
// statement over a table made of a JSON text. STRAIGHT_JOIN makes it look up each
// row of the batch by its primary key, in order. UPDATE returns only the number of
// rows that it changed; if these are not all, a query finds out which.
func (s *Store[R]) updateJoined(ctx context.Context, tx *sqlx.Tx, w *swap) (err error) {
	if _, err := tx.ExecContext(ctx, boundWaits); err != nil {
		return err
	}
	defer func() {
		// Also after an error: the connection goes back to the pool.
		if _, failed := tx.ExecContext(context.WithoutCancel(ctx), resetWaits); err == nil {
			err = failed
		}
	}()
	j := newJoin(s, w)
	joined, text := j.from+" STRAIGHT_JOIN "+s.dialect.QuotedTable(s.Table())+" AS t", j.text(w)
	result, err := tx.ExecContext(ctx, s.dialect.Strict("UPDATE ")+joined+" SET "+strings.Join(j.set, ", ")+" WHERE "+strings.Join(j.where, " AND "), text)
	if err != nil {
		return err
	}
	changed, err := result.RowsAffected()
	if err != nil || changed == 0 {
		return err
	}
	if changed == int64(len(w.updates)) {
		for i := range w.written {
			w.written[i] = true
		}
		return nil
	}
	var found []int
	err = tx.SelectContext(ctx, &found, "SELECT v.n FROM "+joined+" WHERE "+strings.Join(append(j.where[:len(s.ids):len(s.ids)], j.isSet...), " AND "), text)
	for _, n := range found {
		w.written[n-1] = true
	}
	return err
}

// joinedRows is the query for columns of the rows of a batch in MariaDB and MySQL.
func (s *Store[R]) joinedRows(updates []update, columns string) (query string, args []any) {
	ids := &swap{updates: make([]update, len(updates))}
	for i, u := range updates {
		ids.updates[i].id = u.id
	}
	j := newJoin(s, ids)
	return "SELECT v.n, " + columns + " FROM " + j.from + " STRAIGHT_JOIN " + s.dialect.QuotedTable(s.Table()) + " AS t WHERE " + strings.Join(j.where, " AND "), []any{j.text(ids)}
}

// join is the derived table of a batch and the parts of the statement that use it.
type join struct {
	from       string
	where, set []string // where begins with the primary key
	isSet      []string // what is true of a row that was written
	hex        []bool   // of the columns: bytes, as JSON has none
}

func newJoin[R any](s *Store[R], w *swap) *join {
	var j join
	columns := []string{"n FOR ORDINALITY"}
	// add adds a column of the derived table and returns the expression for it.
	add := func(c column) string {
		at := len(columns) - 1
		t, name := s.types[c.name], fmt.Sprintf("c%d", at)
		kind, value := w.textKind(at), "v."+name
		isBytes := c.witness || t.collation == "" && !isNumber(t.name) && !spelledAsText(t.name)
		j.hex = append(j.hex, isBytes)
		switch {
		case isBytes:
			value = "UNHEX(" + value + ")"
		case spelledAsText(t.name):
		case t.collation == "":
			kind = t.name // a comparison with another type would be one of floating-point numbers
		default:
			kind += " CHARACTER SET utf8mb4"
		}
		columns = append(columns, fmt.Sprintf("%s %s PATH '$[%d]'", name, kind, at))
		return value
	}
	for _, c := range s.ids {
		value := add(c)
		if collation := s.types[c.name].collation; collation != "" {
			// Use the collation of the column; otherwise its index is not used.
			charset, _, _ := strings.Cut(collation, "_")
			value = "CONVERT(" + value + " USING " + charset + ") COLLATE " + collation
		}
		j.where = append(j.where, "t."+s.dialect.Quoted(c.name)+" = "+value)
	}
	same := func(c column, value string) string {
		compared := "t." + s.dialect.Quoted(c.name)
		switch {
		case c.witness:
			compared = "CAST(" + compared + " AS BINARY)"
		case s.types[c.name].collation != "":
			value += " COLLATE utf8mb4_bin" // to the letter
		}
		return compared + " " + s.dialect.Same() + " " + value
	}
	for _, c := range w.same {
		j.where = append(j.where, same(c, add(c)))
	}
	for _, name := range w.set {
		c := w.same[w.at(name)]
		value := add(c)
		j.set = append(j.set, "t."+s.dialect.Quoted(name)+" = "+value)
		j.isSet = append(j.isSet, same(c, value))
	}
	j.from = "JSON_TABLE(?, '$[*]' COLUMNS (" + strings.Join(columns, ", ") + ")) AS v"
	return &j
}

// textKind is the type of a text in the derived table, by its number in the rows of
// join.text. The server fills up short ones to their full length, so these are no longer
// than need be, in steps that keep the text of the statement. With a long type it puts the
// table into a file.
func (w *swap) textKind(at int) string {
	const step, most = 64, 512
	longest := 0
	for _, u := range w.updates {
		var v any
		switch i := at; {
		case i < len(u.id):
			v = u.id[i]
		case i < len(u.id)+len(u.same):
			v = u.same[i-len(u.id)]
		default:
			v = u.set[i-len(u.id)-len(u.same)]
		}
		switch v := v.(type) {
		case string:
			longest = max(longest, len(v))
		case []byte:
			longest = max(longest, len(v))
		}
	}
	longest *= 2 // in hex
	if longest > most {
		return "longtext"
	}
	return fmt.Sprintf("varchar(%d)", longest/step*step+step)
}

// spelledAsText lists types whose values MariaDB accepts only as text.
func spelledAsText(t string) bool { return t == "uuid" || t == "inet4" || t == "inet6" }

// numbers are the types of MariaDB and MySQL for them, without what follows.
var numbers = regexp.MustCompile(`^(?:(?:tiny|small|medium|big)?int|decimal|double|float)\b`)

func isNumber(t string) bool { return numbers.MatchString(t) }

// text is the JSON of the updates.
func (j *join) text(w *swap) string {
	rows := make([][]any, 0, len(w.updates))
	for _, u := range w.updates {
		row := appendValues(appendValues(slices.Clone(u.id), u.same), u.set)
		for n, v := range row {
			row[n] = jsonValue(v, j.hex[n])
		}
		rows = append(rows, row)
	}
	text, _ := json.Marshal(rows) // texts and numbers cannot fail
	return string(text)
}

// jsonValue returns a value in the form that the derived table takes.
func jsonValue(v any, asHex bool) any {
	if raw, ok := v.([]byte); ok {
		v = string(raw)
	}
	text, ok := v.(string)
	switch {
	case !ok:
		return v
	case asHex:
		return hex.EncodeToString([]byte(text))
	}
	// This package writes no invalid text, so no stored value is equal to it.
	return strings.ToValidUTF8(text, "\uFFFD")
}
