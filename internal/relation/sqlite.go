package relation

import (
	"cmp"
	"context"
	"slices"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// of SQLite, which tells nothing of the tables of a view. What a view takes is up to
// its triggers.
const (
	inSQLite     = `SELECT type = 'view' FROM pragma_table_list WHERE schema = ? AND name = ? COLLATE NOCASE`
	triggersOf   = `.sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE`
	primaryKeyOf = `SELECT name, "notnull" OR upper(type) = 'INTEGER' FROM pragma_table_info(?, ?) WHERE pk > 0`
)

func sqlite(ctx context.Context, db Querier, schema, name string, ids []string) (r Relation, err error) {
	schema = cmp.Or(schema, "main")
	r.ID = schema + "." + name
	if err := first(ctx, db, inSQLite, []any{schema, name}, &r.View); err != nil {
		return r, err
	}
	if r.View {
		return r, first(ctx, db, "SELECT count(*) = 0 FROM "+sqldialect.SQLite.Quoted(schema)+triggersOf, []any{name}, &r.Fixed)
	}
	var column string
	var notNull bool
	columns, fit := 0, 0
	err = each(ctx, db, primaryKeyOf, []any{name, schema}, []any{&column, &notNull}, func() {
		columns++
		if notNull && slices.Contains(ids, column) {
			fit++
		}
	})
	r.Keyed = columns > 0 && fit == columns
	return r, err
}
