package sqlstore

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"
)

// hasJSONTable: MariaDB from 10.6 and MySQL from 8.0 make a table of a JSON text,
// so that a batch is one statement with one argument.
func (s *Store[R]) hasJSONTable(ctx context.Context) bool {
	var n int
	err := s.db.GetContext(ctx, &n, `SELECT count(*) FROM JSON_TABLE('[[1]]', '$[*]' COLUMNS (c INT PATH '$[0]')) AS v`)
	return err == nil && n == 1
}

// lockWait bounds how long a batch waits for somebody's lock, in this transaction's
// session only until the batch is over.
const (
	boundLockWait = `SET @kms_rotation_lock_wait = @@innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout = 5`
	resetLockWait = `SET SESSION innodb_lock_wait_timeout = @kms_rotation_lock_wait`
)

// updateJoined makes the updates of a batch in MariaDB and MySQL with two
// statements over a table made of a JSON text: UPDATE does not tell which rows it
// changed, so those that are still what was read are locked first. STRAIGHT_JOIN
// makes it look up each row of the batch by its primary key, in order.
func (s *Store[R]) updateJoined(ctx context.Context, tx *sqlx.Tx, w *swap) (err error) {
	if _, err := tx.ExecContext(ctx, boundLockWait); err != nil {
		return err
	}
	defer func() {
		// Also after an error: the connection goes back to the pool.
		if _, failed := tx.ExecContext(context.WithoutCancel(ctx), resetLockWait); err == nil {
			err = failed
		}
	}()
	j := newJoin(s, w)
	table := s.dialect.table(s.Table())
	var found []int
	query := "SELECT v.n FROM " + j.from + " STRAIGHT_JOIN " + table + " AS t WHERE " + strings.Join(j.where, " AND ") + " FOR UPDATE"
	if err := tx.SelectContext(ctx, &found, query, j.text(w, nil)); err != nil {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	for _, n := range found {
		w.written[n-1] = true
	}
	_, err = tx.ExecContext(ctx, "UPDATE "+j.from+" STRAIGHT_JOIN "+table+" AS t SET "+strings.Join(j.set, ", ")+
		" WHERE "+strings.Join(j.where[:len(s.ids)], " AND "), j.text(w, w.written))
	return err
}

// join is the derived table of a batch and what is done with it.
type join struct {
	from       string
	where, set []string // where begins with the primary key
	hex        []bool   // of the columns: bytes, as JSON has none
}

func newJoin[R any](s *Store[R], w *swap) *join {
	var j join
	columns := []string{"n FOR ORDINALITY"}
	// column adds a column of the derived table and returns what stands for it.
	column := func(c column) string {
		at := len(columns) - 1
		t, name := s.types[c.name], fmt.Sprintf("c%d", at)
		kind, value := "longtext", "v."+name
		isBytes := c.witness || t.collation == "" && !isNumber(t.name)
		j.hex = append(j.hex, isBytes)
		switch {
		case isBytes:
			value = "UNHEX(" + value + ")"
		case t.collation == "":
			kind = "bigint"
			if t.name == "bigint" {
				kind = "decimal(20)" // it may be unsigned
			}
		default:
			kind += " CHARACTER SET utf8mb4"
		}
		columns = append(columns, fmt.Sprintf("%s %s PATH '$[%d]'", name, kind, at))
		return value
	}
	for _, c := range s.ids {
		value := column(c)
		if collation := s.types[c.name].collation; collation != "" {
			// Under the collation of the column, else its index is not used.
			charset, _, _ := strings.Cut(collation, "_")
			value = "CONVERT(" + value + " USING " + charset + ") COLLATE " + collation
		}
		j.where = append(j.where, "t."+s.dialect.quoted(c.name)+" = "+value)
	}
	for _, c := range w.same {
		compared, value := "t."+s.dialect.quoted(c.name), column(c)
		switch {
		case c.witness:
			compared = "CAST(" + compared + " AS BINARY)"
		case s.types[c.name].collation != "":
			value += " COLLATE utf8mb4_bin" // to the letter
		}
		j.where = append(j.where, compared+" "+s.dialect.same+" "+value)
	}
	for _, name := range w.set {
		j.set = append(j.set, "t."+s.dialect.quoted(name)+" = "+column(w.same[w.at(name)]))
	}
	j.from = "JSON_TABLE(?, '$[*]' COLUMNS (" + strings.Join(columns, ", ") + ")) AS v"
	return &j
}

func isNumber(t string) bool { return strings.HasSuffix(t, "int") }

// text is the JSON of the updates, or of those that are picked.
func (j *join) text(w *swap, picked []bool) string {
	rows := make([][]any, 0, len(w.updates))
	for i, u := range w.updates {
		if picked != nil && !picked[i] {
			continue
		}
		row := appendValues(appendValues(slices.Clone(u.id), u.same), u.set)
		for n, v := range row {
			row[n] = jsonValue(v, j.hex[n])
		}
		rows = append(rows, row)
	}
	text, _ := json.Marshal(rows) // texts and numbers cannot fail
	return string(text)
}

// jsonValue is a value as the derived table takes it.
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
	// No text of ours is invalid. Compared with something else, it is not equal.
	return strings.ToValidUTF8(text, "\uFFFD")
}
