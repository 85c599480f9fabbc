package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/relation"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// A view, and a table from which others inherit, may have several rows with the same
// primary key. Rows are read by their key, so one of them would be left out between
// two batches, and counted twice elsewhere. And a view, a partition or a table that
// inherits may be only a part of what needs a version.

func (s *Store[R]) relation(ctx context.Context) (relation.Relation, error) {
	return relation.Of(ctx, s.db, s.dialect, s.Table(), names(s.ids), names(s.keys))
}

// mayUpdate refuses a view that takes no UPDATE.
func (s *Store[R]) mayUpdate(ctx context.Context) error {
	r, err := s.relation(ctx)
	if err == nil && r.Fixed {
		err = fmt.Errorf("%w: %s is a view that takes no UPDATE: declare the table behind it", kmsencrypted.ErrConfig, s.Table())
	}
	return err
}

// countsOnce refuses a table with several rows of one primary key, or rows without one,
// and a view of which row level security may hide rows.
func (s *Store[R]) countsOnce(ctx context.Context) error {
	r, err := s.relation(ctx)
	if err != nil {
		return err
	}
	if at := slices.IndexFunc(r.Wholes, func(w relation.Whole) bool { return w.Secured }); r.View && at >= 0 {
		return fmt.Errorf("%w: row level security may hide rows of %s from the view %s: use a database user and an owner of the view with BYPASSRLS",
			kmsencrypted.ErrConfig, r.Wholes[at].Name, s.Table())
	}
	if r.Keyed {
		return nil
	}
	ids := names(s.ids)
	q := s.dialect.Statement("SELECT ")
	q.Names(ids)
	q.Add(" FROM ")
	q.Table(s.Table())
	q.Add(" GROUP BY ")
	q.Names(ids)
	q.Add(" HAVING count(*) > 1")
	for _, id := range ids {
		q.Add(" OR ", q.Dialect.Quoted(id), " IS NULL")
	}
	q.Add(" LIMIT 1")
	rows, err := s.db.QueryContext(ctx, q.String())
	if err != nil {
		return markAway(err)
	}
	defer rows.Close()
	if !rows.Next() {
		return markAway(rows.Err())
	}
	id, targets := make([]sql.Null[string], len(ids)), make([]any, len(ids))
	for i := range id {
		targets[i] = &id[i]
	}
	if err := rows.Scan(targets...); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s %s, so they would be counted twice, or left out", kmsencrypted.ErrConfig, s.Table(), named(ids, id))
}

// named says which primary key is wrong.
func named(ids []string, values []sql.Null[string]) string {
	list := make([]string, len(ids))
	for i, v := range values {
		if !v.Valid {
			return "has rows in which " + ids[i] + " is NULL"
		}
		list[i] = ids[i] + "=" + strings.ToValidUTF8(v.V, "?")
	}
	return "has several rows with " + strings.Join(list, " ")
}

// Whole returns [kmsencrypted.ErrConfig] if the table is a view, a partition or a table
// that inherits from another, and does not have all rows of the tables behind it: those
// that it lacks may need a version that none of its own needs. It counts both.
func (s *Store[R]) Whole(ctx context.Context) error {
	if err := s.usable(); err != nil {
		return err
	}
	r, err := s.relation(ctx)
	tops := r.Tops()
	switch {
	case err != nil:
		return fmt.Errorf("sqlstore: %w", markAway(err))
	case r.View && len(tops) == 0:
		return fmt.Errorf("sqlstore: %w: the database does not tell which tables the view %s shows: declare these tables", kmsencrypted.ErrConfig, s.Table())
	case len(tops) == 0:
		return nil
	}
	behind := strings.Join(tops, " and ")
	count := func(table string) string { return "(SELECT count(*) FROM " + table + ")" }
	var shown, all int64
	sum := count(strings.Join(tops, ") + (SELECT count(*) FROM "))
	err = s.db.QueryRowContext(ctx, "SELECT "+count(s.dialect.QuotedTable(s.Table()))+", "+sum).Scan(&shown, &all)
	switch {
	case sqldialect.Denied(err):
		return fmt.Errorf("sqlstore: %w: %s may be a part of %s, which the database user may not read: %w", kmsencrypted.ErrConfig, s.Table(), behind, err)
	case err != nil:
		return fmt.Errorf("sqlstore: count %s: %w", behind, markAway(err))
	case shown != all:
		return fmt.Errorf("sqlstore: %w: %s has %d of the %d rows of %s: declare the whole table", kmsencrypted.ErrConfig, s.Table(), shown, all, behind)
	}
	return nil
}
