package relation

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// of MariaDB and MySQL, where a partition has no name of its own. A unique index over
// columns of the primary key makes it unique if all of it is NOT NULL. The names are
// given to each part of a query, because the server opens every table otherwise.
const (
	inMySQL = `SELECT table_schema, table_type LIKE '%VIEW' FROM information_schema.tables WHERE table_schema = coalesce(NULLIF(?, ''), database()) AND table_name = ?`
	isKeyed = `SELECT NOT EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = ? AND table_name = ? AND FIND_IN_SET(column_name, ?) > 0 AND is_nullable <> 'NO')
		AND EXISTS (SELECT 1 FROM information_schema.statistics WHERE table_schema = ? AND table_name = ? AND non_unique = 0
			GROUP BY index_name HAVING min(FIND_IN_SET(coalesce(column_name, ''), ?)) > 0)`
	viewInMySQL = `SELECT is_updatable <> 'YES', view_definition FROM information_schema.views WHERE table_schema = ? AND table_name = ?`
	// The first row is that of a table with a key column.
	holdsKeys = `SELECT t.table_type LIKE '%VIEW' FROM information_schema.tables t JOIN information_schema.columns c ON c.table_schema = ? AND c.table_name = ?
		WHERE t.table_schema = ? AND t.table_name = ? AND FIND_IN_SET(c.column_name, ?) > 0`
)

// named finds the tables in the definition of a view, where each is named in full, and
// some columns, which do no harm.
var named = regexp.MustCompile("`((?:[^`]|``)+)`\\.`((?:[^`]|``)+)`")

func mysql(ctx context.Context, db Querier, schema, name string, ids, keys []string) (r Relation, err error) {
	if err := first(ctx, db, inMySQL, []any{schema, name}, &schema, &r.View); err != nil {
		return r, err
	}
	r.ID = schema + "." + name
	if r.View {
		r.Fixed, err = wholesOf(ctx, db, schema, name, strings.Join(keys, ","), &r)
		return r, err
	}
	columns := strings.Join(ids, ",")
	return r, first(ctx, db, isKeyed, []any{schema, name, columns, schema, name, columns}, &r.Keyed)
}

// wholesOf adds what a view reads its keys from, through other views as well.
func wholesOf(ctx context.Context, db Querier, schema, name, keys string, r *Relation) (fixed bool, err error) {
	var definition string
	err = each(ctx, db, viewInMySQL, []any{schema, name}, []any{&fixed, &definition}, func() {}) // empty without the right SHOW VIEW
	if err != nil {
		return false, err
	}
	for _, pair := range named.FindAllStringSubmatch(definition, -1) {
		schema, name := strings.ReplaceAll(pair[1], "``", "`"), strings.ReplaceAll(pair[2], "``", "`")
		id := schema + "." + name
		if id == r.ID || slices.ContainsFunc(r.Wholes, func(w Whole) bool { return w.ID == id }) {
			continue
		}
		var view, found bool
		err := each(ctx, db, holdsKeys, []any{schema, name, schema, name, keys}, []any{&view}, func() { found = true })
		if err == nil && found {
			r.Wholes = append(r.Wholes, Whole{ID: id, Name: sqldialect.MySQL.Quoted(schema) + "." + sqldialect.MySQL.Quoted(name), Top: !view})
		}
		if err == nil && found && view {
			_, err = wholesOf(ctx, db, schema, name, keys, r)
		}
		if err != nil {
			return fixed, err
		}
	}
	return fixed, nil
}
