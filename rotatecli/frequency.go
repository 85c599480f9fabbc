package rotatecli

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// inventoryFrequency is what the statistics of the database tell of a column in which equal
// values are equal: about as much as somebody learns who sees the table.
type inventoryFrequency struct {
	Values int64   `json:"values"`         // different ones, about
	Most   float64 `json:"most,omitempty"` // share of the records with the most frequent value; 0 is not known
}

// frequencies ask the statistics for both, of a table and a column.
// MariaDB and MySQL know only how many values an index that begins with the column has.
// SQLite has no statistics that all its users keep.
var frequencies = map[field.Dialect]string{
	field.Postgres: `SELECT coalesce(max(CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * greatest(c.reltuples, 0) ELSE s.n_distinct END), 0)::float8,
			coalesce(max(s.most_common_freqs[1]), 0)::float8
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname
		WHERE c.oid = $1::text::regclass AND s.attname = $2`,
	field.MySQL: `SELECT coalesce(max(cardinality), 0), 0 FROM information_schema.statistics
		WHERE table_schema = coalesce(nullif(?, ''), database()) AND table_name = ? AND seq_in_index = 1 AND column_name = ?`,
}

// frequency returns nil if the statistics tell nothing, or not to this user.
func (t *table) frequency(ctx context.Context, column string) (*inventoryFrequency, error) {
	query, ok := frequencies[t.database.Dialect]
	if !ok {
		return nil, nil
	}
	var values, most float64
	if err := t.database.DB.QueryRowContext(ctx, query, append(t.database.catalogued(t.name), column)...).Scan(&values, &most); err != nil || values < 1 {
		return nil, err
	}
	return &inventoryFrequency{Values: int64(math.Round(values)), Most: most}, nil
}

// String is what is printed behind the word "frequency".
func (f *inventoryFrequency) String() string {
	text := "about " + things(f.Values, "value")
	if f.Most > 0 {
		percent := strings.TrimSuffix(strconv.FormatFloat(100*f.Most, 'f', 1, 64), ".0")
		if percent == "0" {
			percent = "less than 0.1"
		}
		text += fmt.Sprintf(", the most frequent in %s %% of the records", percent)
	}
	return text
}
