package rotatecli

import (
	"context"
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// width is the type of a column and the most characters or bytes that it holds; 0 if
// it has no such limit.
type width struct {
	kind  string
	limit int
}

// isBytes reports a type of bytes.
func (w width) isBytes() bool {
	return w.kind == "bytea" || strings.HasSuffix(w.kind, "blob") || strings.HasSuffix(w.kind, "binary")
}

// widths are the queries for the types of a table's columns. SQLite has neither
// lengths nor types that it keeps to.
var widths = map[field.Dialect]string{
	field.Postgres: `SELECT attname::text, typname::text, CASE WHEN typname IN ('varchar', 'bpchar') AND atttypmod > 4 THEN atttypmod - 4 ELSE 0 END
		FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped`,
	field.MySQL: `SELECT column_name, data_type, CASE WHEN character_maximum_length < 65535 THEN character_maximum_length ELSE 0 END
		FROM information_schema.columns WHERE table_schema = coalesce(nullif(?, ''), database()) AND table_name = ?`,
}

// catalogued are the arguments that name a table in a query of the database's catalogue: as a
// regclass in PostgreSQL, by schema, which may be empty, and name in MariaDB and MySQL.
func (d *Database) catalogued(table string) []any {
	if d.Dialect != field.MySQL {
		return []any{d.Dialect.QuotedTable(table)}
	}
	if schema, name, qualified := strings.Cut(table, "."); qualified {
		return []any{schema, name}
	}
	return []any{"", table}
}

func (d *Database) widths(ctx context.Context, table string) (map[string]width, error) {
	rows, err := d.DB.QueryContext(ctx, widths[d.Dialect], d.catalogued(table)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[string]width)
	for rows.Next() {
		var name string
		var w width
		var limit *int
		if err := rows.Scan(&name, &w.kind, &limit); err != nil {
			return nil, err
		}
		if limit != nil {
			w.limit = *limit
		}
		found[name] = w
	}
	return found, rows.Err()
}

// misfits are the columns that cannot hold what the model writes into them.
func (d *Database) misfits(ctx context.Context, model field.Adapter[any]) (findings []finding, err error) {
	if widths[d.Dialect] == "" {
		return nil, nil
	}
	found, err := d.widths(ctx, model.Table())
	if err != nil {
		return nil, err
	}
	for _, form := range model.Forms() {
		w, ok := found[form.Column]
		if !ok {
			continue // said already
		}
		if form.IsKey && w.limit > 0 {
			if form.Least, err = keyLength(ctx, model, form.Column); err != nil {
				findings = append(findings, finding{false, fmt.Sprintf("%s holds %d characters, and how long the keys of version %d are is not known: %v", form.Column, w.limit, model.Box().Current(), err)})
			}
		}
		findings = append(findings, w.misfits(form)...)
	}
	return findings, nil
}

// misfits compares the type of a column with what is written into it.
func (w width) misfits(form field.ColumnForm) (findings []finding) {
	say := func(bad bool, format string, args ...any) {
		findings = append(findings, finding{bad, form.Column + fmt.Sprintf(format, args...)})
	}
	switch {
	case form.Binary && !w.isBytes():
		say(true, " is %s, and the model writes bytes", w.kind)
	case !form.Binary && w.isBytes():
		say(form.IsKey && w.kind == "bytea", " is %s, and the model writes text", w.kind)
	case w.kind == "bpchar" || w.kind == "binary":
		say(true, " is %s(%d), which pads what is written", w.kind, w.limit)
	}
	switch {
	case w.limit > 0 && form.Least > w.limit:
		say(true, " is %s(%d), and what the model writes has %d or more", w.kind, w.limit, form.Least)
	case w.limit > 0 && !form.IsKey && !form.Fixed:
		say(false, " is %s(%d): what is longer is an error", w.kind, w.limit)
	}
	return findings
}

// keyLength wraps a data key under the current version, which is thrown away, and
// returns the length of its column.
func keyLength(ctx context.Context, model field.Adapter[any], column string) (int, error) {
	box := model.Box()
	version, err := box.Version(box.Current())
	if err != nil {
		return 0, err
	}
	if version.ProviderFor != nil {
		return 0, fmt.Errorf("it has a provider for each record")
	}
	key := kmsencrypted.NewDataKey()
	defer key.Wipe()
	id := make([]string, len(model.IDColumns()))
	for i := range id {
		id[i] = "0"
	}
	wrapped, err := box.Wrap(ctx, key, kmsencrypted.Binding{Table: model.BoundTable(), Column: column, ID: id, Context: kmsencrypted.Context{}})
	if err != nil || !version.RecordSeal {
		return len(wrapped), err
	}
	const seal = 32 // bytes, in base64
	return len(wrapped) + (seal+2)/3*4, nil
}
