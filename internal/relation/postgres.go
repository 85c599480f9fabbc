package relation

import (
	"context"
	"strings"
)

// of PostgreSQL: the kind of relation, whether it takes an UPDATE (4), and whether a
// unique index consists of columns of the primary key, all of which are NOT NULL. An
// index of a table does not hold for those that inherit from it.
const inPostgres = `WITH declared AS (SELECT attname, attnotnull FROM pg_attribute
		WHERE attrelid = $1::text::regclass AND attname::text = ANY (string_to_array($2::text, E'\x1f')))
	SELECT c.oid::text, c.relkind IN ('v', 'm'), pg_relation_is_updatable(c.oid, true) & 4 = 0,
		NOT EXISTS (SELECT 1 FROM declared WHERE NOT attnotnull)
		AND (c.relkind = 'p' OR NOT EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = c.oid))
		AND EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
			AND NOT EXISTS (SELECT 1 FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS part(number, n) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = part.number
				WHERE part.n <= i.indnkeyatts AND a.attname NOT IN (SELECT attname FROM declared)))
	FROM pg_class c WHERE c.oid = $1::text::regclass`

// wholesInPostgres goes from a relation to those that have its keys: from a partition
// or child to its parents, from a view to the columns that it reads. A view reads with
// the rights of its owner or with those of the user, so row level security matters if
// it holds for any of them.
const wholesInPostgres = `WITH RECURSIVE edge(part, whole) AS (
		SELECT i.inhrelid, i.inhparent FROM pg_inherits i JOIN pg_attribute a ON a.attrelid = i.inhparent
			WHERE a.attname::text = ANY (string_to_array($2::text, E'\x1f')) AND NOT a.attisdropped
		UNION
		SELECT r.ev_class, d.refobjid FROM pg_rewrite r
			JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
			JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
			WHERE r.ev_type = '1' AND a.attname::text = ANY (string_to_array($2::text, E'\x1f'))
	), up(id) AS (SELECT $1::text::regclass::oid UNION SELECT edge.whole FROM up JOIN edge ON edge.part = up.id),
	readers(id) AS (SELECT current_user::regrole::oid UNION SELECT c.relowner FROM up JOIN pg_class c ON c.oid = up.id WHERE c.relkind = 'v')
	SELECT c.oid::text, c.oid::regclass::text, c.relkind <> 'v' AND NOT EXISTS (SELECT 1 FROM edge WHERE edge.part = c.oid),
		c.relrowsecurity AND EXISTS (SELECT 1 FROM readers JOIN pg_roles role ON role.oid = readers.id
			WHERE NOT role.rolsuper AND NOT role.rolbypassrls AND (c.relforcerowsecurity OR NOT pg_has_role(role.oid, c.relowner, 'USAGE')))
	FROM up JOIN pg_class c ON c.oid = up.id WHERE up.id <> $1::text::regclass::oid`

func postgres(ctx context.Context, db Querier, table string, ids, keys []string) (r Relation, err error) {
	if err := first(ctx, db, inPostgres, []any{table, strings.Join(ids, separator)}, &r.ID, &r.View, &r.Fixed, &r.Keyed); err != nil {
		return r, err
	}
	var w Whole
	err = each(ctx, db, wholesInPostgres, []any{table, strings.Join(keys, separator)}, []any{&w.ID, &w.Name, &w.Top, &w.Secured}, func() {
		r.Wholes = append(r.Wholes, w)
	})
	return r, err
}
