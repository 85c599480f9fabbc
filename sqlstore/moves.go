package sqlstore

import (
	"context"
	"fmt"
	"iter"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// A plan asks which keys a run handles, and where the version chooses the key service or
// the branch key for each record, which these are.

// Keys counts the keys of the selected records by version, also those that are at the
// target already. It reads the table once per key column.
func (s *Store[R]) Keys(ctx context.Context, sel rotation.Selection) (counts []rotation.VersionCount, err error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	for _, key := range s.keys {
		q := s.dialect.Statement("SELECT ", s.versionOf(key), ", count(*) FROM ", s.dialect.QuotedTable(s.Table()), " WHERE 1 = 1")
		if err := s.where(q, sel); err != nil {
			return nil, err
		}
		q.Add(" GROUP BY 1")
		byVersion, err := s.countBy(ctx, key, q.String(), q.Args...)
		if err != nil {
			return nil, fmt.Errorf("sqlstore: count keys of %s: %w", s.Table(), markAway(err))
		}
		for c, n := range byVersion {
			c.Rows = n
			counts = append(counts, c)
		}
	}
	return counts, nil
}

// Moves yields for each key of the selected records where it comes from and goes to. It
// reads keys and what the encryption context is made of, and makes no call to a key
// service. With a limit it reads about so many records, from all over the table if that
// has an integer for a primary key.
func (s *Store[R]) Moves(ctx context.Context, sel rotation.Selection) iter.Seq2[rotation.KeyMove, error] {
	return func(yield func(rotation.KeyMove, error) bool) {
		if err := s.eachMove(ctx, sel, func(m rotation.KeyMove) bool { return yield(m, nil) }); err != nil {
			yield(rotation.KeyMove{}, fmt.Errorf("sqlstore: read keys of %s: %w", s.Table(), markAway(err)))
		}
	}
}

const movesPage = 2000 // records in memory

func (s *Store[R]) eachMove(ctx context.Context, sel rotation.Selection, yield func(rotation.KeyMove) bool) error {
	if err := s.usable(); err != nil {
		return err
	}
	places := [][]any{nil} // where a part begins
	each := int64(0)
	if sel.Limit > 0 {
		each = int64(sel.Limit)
		if s.hasIntegerID() {
			bounds, err := s.equalBounds(ctx, samplePlaces)
			if err != nil {
				return err
			}
			places = append(places, bounds...)
			each = max(1, each/int64(len(places)))
		}
	}
	for _, place := range places {
		sel.After = ""
		if place != nil {
			sel.After = encodeKey(place)
		}
		if more, err := s.movesFrom(ctx, sel, each, yield); err != nil || !more {
			return err
		}
	}
	return nil
}

// movesFrom yields the moves of some records, or all if each is 0. more is false if yield
// was.
func (s *Store[R]) movesFrom(ctx context.Context, sel rotation.Selection, each int64, yield func(rotation.KeyMove) bool) (more bool, err error) {
	v := s.view(rotation.Selection{Kind: rotation.Rewrap, RotateOnly: true})
	for seen := int64(0); each == 0 || seen < each; {
		limit := int64(movesPage)
		if each > 0 {
			limit = min(limit, each-seen)
		}
		q := s.dialect.Statement()
		s.selectFrom(q, v)
		if err := s.where(q, sel); err != nil {
			return false, err
		}
		q.Add(" ORDER BY ", s.dialect.QuotedNames(names(s.ids)), fmt.Sprintf(" LIMIT %d", limit))
		var rows []R
		var records []record
		var whole bool
		err := s.inSession(ctx, func(conn *sqlx.Conn) (err error) {
			rows, records, whole, err = s.load(ctx, conn, q, v, int(limit))
			return err
		})
		if err != nil {
			return false, err
		}
		for i := range rows {
			for _, key := range s.keys {
				if m, ok := s.move(key, &rows[i], sel.Target); ok && !yield(m) {
					return false, nil
				}
			}
		}
		if seen += int64(len(rows)); whole && int64(len(rows)) < limit {
			break
		}
		sel.After = encodeKey(records[len(records)-1].id)
	}
	return true, nil
}

// move returns where a key goes. ok is false if a version cannot place it.
func (s *Store[R]) move(key column, row *R, target int) (m rotation.KeyMove, ok bool) {
	m.Column, m.Target = key.name, s.targetOf(key, target)
	binding, box := s.model.Binding(key.name, row), s.model.Box()
	var err error
	if m.To, err = box.Place(m.Target, binding); err != nil {
		return m, false
	}
	stored := key.of(row).Interface().(field.Key)
	if m.Version, m.HasKey = stored.Version(); m.HasKey {
		m.From, err = box.Place(m.Version, binding)
	}
	return m, err == nil
}

// versionOf is the SQL of the version in a key column: NULL, a prefix, or an empty text for any other.
func (s *Store[R]) versionOf(key column) string {
	name := s.dialect.Quoted(key.name)
	return fmt.Sprintf(`CASE WHEN %[1]s IS NULL THEN NULL WHEN %[1]s LIKE 'v%%' THEN %[2]s ELSE '' END`,
		name, fmt.Sprintf(dialects[s.dialect].prefix, name))
}

// countBy runs a query for a version as of versionOf and a number.
func (s *Store[R]) countBy(ctx context.Context, key column, query string, args ...any) (map[rotation.VersionCount]int64, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	counts := make(map[rotation.VersionCount]int64)
	for rows.Next() {
		var prefix *string
		var n int64
		if err := rows.Scan(&prefix, &n); err != nil {
			return nil, err
		}
		c := rotation.VersionCount{Column: key.name, HasKey: prefix != nil, Target: s.ownTarget(key)}
		if c.HasKey {
			c.Version = kmsencrypted.ColumnVersion(*prefix)
		}
		counts[c] += n
	}
	return counts, rows.Err()
}
