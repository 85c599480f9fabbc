package rotatecli

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

type inspectCmd struct {
	Values []string `arg:"" optional:"" name:"value" help:"Values of columns; \"-\" reads one a line from standard input."`
	Table  string   `short:"t" placeholder:"NAME" help:"Look at the columns of a record of this table instead."`
	ID     []string `sep:"none" placeholder:"ID" help:"Its primary key; compound ones with a comma between the parts."`
	JSON   bool     `help:"Print JSON."`
}

func (inspectCmd) Help() string {
	return `Nothing is decrypted and no key service is called. Examples:

  inspect 'v2:AQJ…'
  psql -Atc "SELECT encrypted_kms_key FROM users" | head | kmsencrypted inspect -
  inspect --table users --id 7`
}

func (c *inspectCmd) Run(ctx context.Context, s *Session) error {
	switch {
	case c.Table != "" && (len(c.ID) == 0 || len(c.Values) > 0):
		return usage("--table goes with --id, and without values")
	case c.Table == "" && len(c.ID) > 0:
		return usage("--id goes with --table")
	case c.Table != "":
		return c.record(ctx, s)
	case len(c.Values) == 0:
		return usage("give a value, or - to read them from standard input")
	}
	var all []Inspection
	show := func(value string) {
		i := Inspect(value)
		if c.JSON {
			all = append(all, i)
			return
		}
		s.printf("%s\n", i)
	}
	for _, value := range c.Values {
		if value != "-" {
			show(value)
			continue
		}
		lines := bufio.NewScanner(s.Stdin)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			show(lines.Text())
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
	}
	if c.JSON {
		return s.printJSON(all)
	}
	return nil
}

// record shows every column of the model in a record.
func (c *inspectCmd) record(ctx context.Context, s *Session) error {
	tables, err := s.some(ctx, []string{c.Table})
	if err != nil {
		return err
	}
	t := tables[0]
	rows := [][]string{}
	var all []columnInspection
	for _, id := range c.ID {
		columns, values, err := t.read(ctx, id)
		if err != nil {
			return err
		}
		for _, column := range columns {
			i := t.inspect(column, values)
			all = append(all, columnInspection{t.name, id, column, i})
			rows = append(rows, []string{t.name + " " + id, column, i.String()})
		}
	}
	if c.JSON {
		return s.printJSON(all)
	}
	columnsOf(s.Stdout, rows)
	return nil
}

// inspect describes the value of a column of a record.
func (t *table) inspect(column string, values map[string]sql.Null[string]) Inspection {
	value := values[column]
	if !value.Valid {
		return Inspection{Kind: "NULL"}
	}
	if t.isIndex(column) {
		return Inspection{Kind: "blind index", Note: "computed from a value, to find it; nothing is encrypted in it"}
	}
	i := inspect(value.V, t.mayBeNative(column, values))
	if i.Version > 0 {
		if v, err := t.model.Box().Version(i.Version); err == nil {
			i.KeyID = infoOf(v).KeyID
		}
	}
	return i
}

// mayBeNative reports whether a column of a record may hold a native field. It does
// not where it is under no key column, or under one in Ruby's form. The first byte of
// the value is not enough to tell.
func (t *table) mayBeNative(column string, values map[string]sql.Null[string]) bool {
	key := t.model.KeyColumnOf(column)
	return key != "" && Inspect(values[key].V).Format != "ruby"
}

// isIndex reports whether the model has a blind index in a column.
func (t *table) isIndex(column string) bool {
	return slices.ContainsFunc(t.model.IndexColumns(), func(x field.IndexColumn) bool {
		return x.Column == column && !slices.Contains(x.Sources, column) // else it holds a value
	})
}

type columnInspection struct {
	Table  string `json:"table"`
	ID     string `json:"id"`
	Column string `json:"column"`
	Inspection
}

// byID returns a query for columns of one record, by its primary key as an operator writes
// it: compound ones with a comma between the parts.
func (t *table) byID(id string, columns []string) (*sqldialect.Statement, error) {
	ids := t.model.IDColumns()
	parts := strings.SplitN(id, ",", len(ids))
	if len(parts) != len(ids) {
		return nil, usage("the primary key of %s is (%s)", t.name, strings.Join(ids, ", "))
	}
	q := t.database.Dialect.Statement("SELECT ")
	q.Names(columns)
	q.Add(" FROM ")
	q.Table(t.name)
	q.Add(" WHERE ")
	q.Each(len(ids), " AND ", func(n int) {
		q.Add(t.textOf(ids[n]), " = ")
		q.Arg(parts[n])
	})
	return q, nil
}

// noRecord is the error for a primary key that no record has.
func (t *table) noRecord(id string) error { return fmt.Errorf("%s has no record %s", t.name, id) }

// read reads the encrypted columns of one record without decrypting them.
func (t *table) read(ctx context.Context, id string) (columns []string, values map[string]sql.Null[string], err error) {
	columns = t.model.Columns()
	q, err := t.byID(id, columns)
	if err != nil {
		return nil, nil, err
	}
	read, into := make([]sql.Null[string], len(columns)), make([]any, len(columns))
	for n := range read {
		into[n] = &read[n]
	}
	err = t.database.DB.QueryRowContext(ctx, q.String(), q.Args...).Scan(into...)
	if err == sql.ErrNoRows {
		err = t.noRecord(id)
	}
	values = make(map[string]sql.Null[string])
	for n, column := range columns {
		values[column] = read[n]
	}
	return columns, values, err
}

// textOf compares a key of any type with text.
func (t *table) textOf(column string) string {
	types := map[field.Dialect]string{field.Postgres: "text", field.MySQL: "char", field.SQLite: "text"}
	return "CAST(" + t.database.Dialect.Quoted(column) + " AS " + types[t.database.Dialect] + ")"
}

// has reports whether a list holds a name.
func has(list []string, name string) bool { return slices.Contains(list, name) }
