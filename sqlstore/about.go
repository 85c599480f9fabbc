package sqlstore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Counting reads every row. For a plan or a progress display it is enough to know how
// many rows the statistics of the database tell, and what a sample of them holds.

const (
	// fewRows are counted as fast as they are estimated.
	fewRows = 200_000
	// sampleRows is about the size of a sample. The share of a version in it is right to
	// one or two in a hundred.
	sampleRows = 20_000
	// samplePlaces is where a sample by primary key is taken.
	samplePlaces = 100
)

// About estimates what [Store.Count] counts, in a time that does not grow with the table.
// A version that few records have may be missing. ok is false if the table is small, or
// the database has no statistics of it, or no way to sample it: then use Count. PostgreSQL
// samples any table; MariaDB and MySQL need a primary key of one integer column; SQLite
// has no statistics.
func (s *Store[R]) About(ctx context.Context) (counts []rotation.VersionCount, ok bool, err error) {
	if err := s.usable(); err != nil {
		return nil, false, err
	}
	failed := func(err error) error { return fmt.Errorf("sqlstore: estimate %s: %w", s.Table(), markAway(err)) }
	if err := s.seesAll(ctx); err != nil {
		return nil, false, failed(err)
	}
	rows, err := s.rowsAbout(ctx)
	if err != nil {
		return nil, false, failed(err)
	}
	if rows < fewRows {
		return nil, false, nil
	}
	for _, key := range s.keys {
		sampled, err := s.sample(ctx, key, rows)
		if err != nil {
			return nil, false, failed(err)
		}
		var all int64
		for _, n := range sampled {
			all += n
		}
		if all == 0 {
			return nil, false, nil
		}
		for c, n := range sampled {
			c.Rows = rounded(float64(rows) * float64(n) / float64(all))
			counts = append(counts, c)
		}
	}
	slices.SortFunc(counts, compareCounts)
	return counts, true, nil
}

// rowsAbout returns the number of rows that the statistics tell, 0 if they do not.
func (s *Store[R]) rowsAbout(ctx context.Context) (rows int64, err error) {
	if query := dialects[s.dialect].rowsAbout; query != "" {
		err = s.db.GetContext(ctx, &rows, query, typesOf(s.dialect, s.Table())...)
	}
	return rows, err
}

// sample counts the versions of a key column in a part of the table.
func (s *Store[R]) sample(ctx context.Context, key column, rows int64) (map[rotation.VersionCount]int64, error) {
	name := s.dialect.Quoted(key.name)
	from := ""
	switch {
	case s.dialect == field.Postgres:
		from = fmt.Sprintf("%s TABLESAMPLE SYSTEM (%g)", s.dialect.QuotedTable(s.Table()), math.Min(100, 100*sampleRows/float64(rows)))
	case s.hasIntegerID():
		places, err := s.equalBounds(ctx, samplePlaces)
		if err != nil || len(places) == 0 {
			return nil, err
		}
		parts := make([]string, len(places))
		for i, id := range places {
			parts[i] = fmt.Sprintf("(SELECT %s FROM %s WHERE %s > %d ORDER BY %[3]s LIMIT %[5]d)", name, s.dialect.QuotedTable(s.Table()), s.dialect.Quoted(s.ids[0].name), id[0], sampleRows/samplePlaces)
		}
		from = "(" + strings.Join(parts, " UNION ALL ") + ") AS sampled"
	default:
		return nil, nil
	}
	return s.countIn(ctx, key, from, "")
}

// countIn counts rows of a table, or of what stands for it, by the version of a key
// column.
func (s *Store[R]) countIn(ctx context.Context, key column, from, part string) (map[rotation.VersionCount]int64, error) {
	return s.countBy(ctx, key, fmt.Sprintf(`SELECT %s, count(*) FROM %s WHERE %s GROUP BY 1`, s.versionOf(key), from, within(part)))
}

// rounded keeps two digits, because more would say too much.
func rounded(n float64) int64 {
	if n < 100 {
		return int64(math.Round(n))
	}
	unit := math.Pow(10, math.Floor(math.Log10(n))-1)
	return int64(math.Round(n/unit) * unit)
}
