package kmsbun

import (
	"context"
	"database/sql"
	"reflect"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
	"github.com/kmsencrypted/kmsencrypted/internal/sqlscan"
)

// conn stands before the connection of a query that writes records. bun sends the one
// statement that it made; run sends it with others that belong to it.
type conn struct {
	bun.IConn
	run func(ctx context.Context, text string, returns bool) (answer, error)
	// once says that the query was changed for the record as it is: it cannot be made
	// again.
	once bool
}

// answer is what became of a statement: what it returned, or how many rows it found.
type answer struct {
	result
	affected, lastID int64
}

// LastInsertId and RowsAffected implement [sql.Result].
func (a answer) LastInsertId() (int64, error) { return a.lastID, nil }
func (a answer) RowsAffected() (int64, error) { return a.affected, nil }

func (c *conn) ExecContext(ctx context.Context, text string, _ ...any) (sql.Result, error) {
	if err := ctx.Err(); err != nil { // refused, too
		return nil, err
	}
	a, err := c.run(ctx, text, false)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (c *conn) QueryContext(ctx context.Context, text string, _ ...any) (*sql.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	a, err := c.run(ctx, text, true)
	if err != nil {
		return nil, err
	}
	return a.result.open()
}

// send sends a statement of bun's. It reads what the statement returns at once, except
// for encrypted columns, whose values the record has already.
func (t *table) send(ctx context.Context, db bun.IConn, text string, returns bool) (a answer, err error) {
	text = strictly(t.dialect, text)
	if returns {
		rows, err := db.QueryContext(ctx, text)
		if err == nil {
			a.result, err = readAll(rows, func(column string) bool { return !slices.Contains(t.managed, column) })
		}
		a.affected = int64(len(a.result.rows))
		if err == nil && a.result.silent { // one record, whose statement had nothing to return
			a.affected = 1
		}
		return a, records.Hide(err, nil)
	}
	r, err := db.ExecContext(ctx, text)
	if err == nil {
		a.affected, err = r.RowsAffected()
	}
	if err == nil && t.dialect == field.MySQL {
		a.lastID, err = r.LastInsertId()
	}
	return a, records.Hide(err, nil)
}

// checkReturning refuses to return an encrypted column: the record has its value, and
// elsewhere it would be a ciphertext.
func (t *table) checkReturning(op string, q any) error {
	for _, r := range *returningOf(q) {
		text := "SELECT " + r.Query
		for _, arg := range r.Args {
			if v := reflect.ValueOf(arg); v.Kind() == reflect.String { // a name
				text += ", " + v.String()
			}
		}
		s := sqlscan.Parse(text, t.options())
		for _, column := range t.fields {
			if s.Mentioned[strings.ToLower(column)] {
				return t.refused(op, column, kmsencrypted.ErrNotOpened, "the record has its value: return other columns, or *")
			}
		}
	}
	return nil
}

// strictly makes MariaDB and MySQL refuse what they would cut. bun's statement may
// begin with a comment of the program.
func strictly(d field.Dialect, text string) string {
	comment := ""
	if strings.HasPrefix(text, "/*") {
		if end := strings.Index(text, "*/"); end >= 0 {
			comment, text = text[:end+2]+" ", strings.TrimLeft(text[end+2:], " ")
		}
	}
	return comment + d.Strict(text)
}
