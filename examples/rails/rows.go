package main

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/field"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// load reads rows of a table and opens them.
func load[R any](ctx context.Context, db *sqlx.DB, m *field.Model[R], where string, args ...any) (rows []R, err error) {
	return rows, kmssqlx.Select(ctx, db, m, &rows, `SELECT * FROM `+m.Table()+` `+where+` ORDER BY id`, args...)
}

// saveAsRails seals and writes what was set in a record as a Rails process does:
// under the data key in its memory, whatever lies in the row meanwhile.
func saveAsRails[R any](ctx context.Context, db sqlx.ExecerContext, m *field.Model[R], row *R, id int64) error {
	if err := m.Seal(ctx, row); err != nil {
		return err
	}
	w, err := m.Adapter().Write(row) //kmsvet:ignore Rails compares nothing either
	if err != nil {
		return err
	}
	var args []any
	for _, c := range w.Set {
		args = append(args, c.Value)
	}
	set := strings.ReplaceAll(names(w.Set), ", ", " = ?, ") + " = ?"
	_, err = db.ExecContext(ctx, `UPDATE `+m.Table()+` SET `+set+` WHERE id = ?`, append(args, id)...)
	return err
}

// show prints the columns of one row as they are stored.
func (a *app) show(ctx context.Context, query string, args ...any) error {
	rows, err := a.db.QueryxContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		values, err := rows.SliceScan()
		if err != nil {
			return err
		}
		for i, v := range values {
			a.line("  "+columns[i], stored(v))
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return a.flush()
}

// stored is a column in a few characters: its beginning and, of text with
// newlines, its end.
func stored(v any) string {
	s, ok := v.(string)
	switch {
	case !ok:
		return "NULL"
	case strings.HasSuffix(s, "\n"):
		return fmt.Sprintf("%.4s…\\n (%d characters)", s, len(s))
	case strings.Contains(s, ":"), strings.HasPrefix(s, "insecure"):
		return fmt.Sprintf("%.20s…", s)
	}
	return fmt.Sprintf("%.4s… (%d characters)", s, len(s))
}

func names(assignments []field.Assignment) string {
	columns := make([]string, len(assignments))
	for i, a := range assignments {
		columns[i] = a.Column
	}
	return strings.Join(columns, ", ")
}

// line collects a line of cells, flush prints the lines with their columns aligned.
func (a *app) line(cells ...any) {
	format := strings.TrimSuffix(strings.Repeat("%v\t", len(cells)), "\t")
	fmt.Fprintf(a.cells, format+"\n", cells...)
}

func (a *app) flush() error { return a.cells.Flush() }

// text is the plaintext of an opened field, or - for NULL.
func text[T any](f field.Of[*T]) string {
	if p := f.Must(); p != nil {
		return cut(*p)
	}
	return "-"
}

func date(f field.Of[*time.Time]) string {
	if p := f.Must(); p != nil {
		return p.Format(time.DateOnly)
	}
	return "-"
}

// cut is a value in at most 13 printable characters.
func cut(v any) string {
	const most = 13
	r := []rune(fmt.Sprint(v))
	if len(r) > most {
		r = append(r[:most-1], '…')
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, string(r))
}

func version(k field.Key) string {
	n, _ := k.Version()
	return fmt.Sprintf("v%d", n)
}
