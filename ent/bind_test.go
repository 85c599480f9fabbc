package kment

import (
	"reflect"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// The condition takes the place of one argument in the statement of ent, whatever
// follows.
func TestBind(t *testing.T) {
	t.Parallel()
	key := field.Assignment{Column: "k", Value: "v1:a"}
	keys := field.Assignment{Column: "k", Value: nil}
	keys.Or = append(keys.Or, "v1:b")
	for _, test := range []struct {
		kind  sqldialect.Dialect
		where []field.Assignment
		query string
		args  []any
	}{
		{sqldialect.Postgres, []field.Assignment{key}, `UPDATE t SET a = $1 WHERE id = $2 AND "k" IS NOT DISTINCT FROM $3 AND b = $4`, []any{"sealed", 7, "v1:a", "x"}},
		{sqldialect.Postgres, []field.Assignment{key, keys}, `UPDATE t SET a = $1 WHERE id = $2 AND "k" IS NOT DISTINCT FROM $3 AND ("k" IS NOT DISTINCT FROM $5 OR "k" IS NOT DISTINCT FROM $6) AND b = $4`, []any{"sealed", 7, "v1:a", "x", nil, "v1:b"}},
		{sqldialect.Postgres, nil, `UPDATE t SET a = $1 WHERE id = $2 AND CAST($3 AS text) IS NULL AND b = $4`, []any{"sealed", 7, nil, "x"}},
		{sqldialect.MySQL, []field.Assignment{key, keys}, "UPDATE t SET a = ? WHERE id = ? AND `k` <=> ? AND (`k` <=> ? OR `k` <=> ?) AND b = ?", []any{"sealed", 7, "v1:a", nil, "v1:b", "x"}},
		{sqldialect.SQLite, nil, "UPDATE t SET a = ? WHERE id = ? AND 1 = 1 AND b = ?", []any{"sealed", 7, "x"}},
	} {
		u := &Update[struct{}]{typed: typed[struct{}]{driver: &Driver{kind: test.kind}}}
		mark := test.kind.Placeholder
		s := statement{
			query: "UPDATE t SET a = " + mark(1) + " WHERE id = " + mark(2) + " AND kmsencrypted(" + mark(3) + ") AND b = " + mark(4),
			args:  []any{&value{of: u, column: "a"}, 7, &value{of: u}, "x"},
		}
		query, args := u.bind(s, []field.Assignment{{Column: "a", Value: "sealed"}}, test.where)
		if query != test.query || !reflect.DeepEqual(args, test.args) {
			t.Errorf("%s: bind = %s, %v, want %s, %v", test.kind, query, args, test.query, test.args)
		}
	}
}
