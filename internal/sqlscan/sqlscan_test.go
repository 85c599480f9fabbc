package sqlscan

import (
	"reflect"
	"testing"
)

func TestWritten(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sql  string
		o    Options
		want []string
	}{
		{`SELECT a FROM t WHERE b = ?`, Options{}, nil},
		{`DELETE FROM t WHERE b = ?`, Options{}, nil},
		{`INSERT INTO "s"."t" ("a", "b") VALUES ($1, $2) RETURNING "id"`, Options{Numbered: true}, []string{"a", "b"}},
		{"INSERT INTO `t` (`a`) VALUES (?) ON DUPLICATE KEY UPDATE `b` = VALUES(`c`), `d` = ?", Options{MySQL: true}, []string{"a", "b", "d"}},
		{`INSERT INTO t (a) VALUES (?) ON CONFLICT (x) DO UPDATE SET b = excluded.c WHERE t.e = ?`, Options{}, []string{"a", "b"}},
		{`INSERT INTO t SELECT a FROM u WHERE b = ?`, Options{}, nil},
		{`UPDATE t SET a = ?, t.b = (SELECT max(c) FROM u WHERE d = ?), "e" = COALESCE(f, ?) WHERE g = ?`, Options{}, []string{"a", "b", "e"}},
		{`UPDATE t SET (a, b) = (?, ?), c = NULL FROM u WHERE d = ?`, Options{}, []string{"a", "b", "c"}},
		{`WITH x AS (UPDATE t SET a = 1 WHERE b = 2 RETURNING c) SELECT d FROM x WHERE e = 'SET f = 1'`, Options{}, []string{"a"}},
		{"/* SET z = 1 */ UPDATE t SET a = 'SET b = 2', c = \"SET d = 3\" -- SET e = 4\n WHERE f = 5", Options{MySQL: true}, []string{"a", "c"}},
	} {
		if got := Parse(test.sql, test.o).Written; !reflect.DeepEqual(got, test.want) {
			t.Errorf("Parse(%s).Written = %q, want %q", test.sql, got, test.want)
		}
	}
}

// A library that writes its arguments into a statement is read by its constants.
func TestConstants(t *testing.T) {
	t.Parallel()
	s := Parse(`UPDATE t SET a = 'it''s', b2 = 42 WHERE c IN ('x', NULL) AND d = X'ff' AND 2 = e`, Options{Constants: true})
	want := []Comparison{
		{Names: []Name{{Column: "a"}}, Placeholders: []int{0}},
		{Names: []Name{{Column: "b2"}}, Placeholders: []int{1}},
		{Names: []Name{{Column: "c"}, {Column: "IN"}, {Column: "NULL"}}, Placeholders: []int{2}},
		{Names: []Name{{Column: "d"}, {Column: "X"}}, Placeholders: []int{3}},
		{Names: []Name{{Column: "e"}}, Placeholders: []int{4}},
	}
	var got []Comparison
	for _, c := range s.Compared {
		if len(c.Placeholders) > 0 {
			got = append(got, c)
		}
	}
	if constants := []string{"it's", "42", "x", "ff", "2"}; !reflect.DeepEqual(s.Constants, constants) {
		t.Errorf("Constants = %q, want %q", s.Constants, constants)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Compared = %v, want %v", got, want)
	}
	if want := []string{"a", "b2"}; !reflect.DeepEqual(s.Written, want) {
		t.Errorf("Written = %q, want %q", s.Written, want)
	}
}

func TestSplitInsert(t *testing.T) {
	t.Parallel()
	numbered := Options{Numbered: true}
	in, ok := SplitInsert(`INSERT INTO "t" ("a", "b") VALUES ($1, $2), (NULL, f(')', $3)) RETURNING "id"`, numbered)
	if !ok || in.Rows != 2 {
		t.Fatalf("SplitInsert = %v, %t, want two rows", in, ok)
	}
	if sql, args := in.Some(1); sql != `INSERT INTO "t" ("a", "b") VALUES (NULL, f(')', $1)) RETURNING "id"` || !reflect.DeepEqual(args, []int{2}) {
		t.Errorf("Some(1) = %s, %v", sql, args)
	}
	sql, args := in.WithColumn(`"id"`, "OVERRIDING SYSTEM VALUE")
	if want := `INSERT INTO "t" ("id", "a", "b") OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3), ($4, NULL, f(')', $5)) RETURNING "id"`; sql != want || !reflect.DeepEqual(args, []int{-1, 0, 1, -2, 2}) {
		t.Errorf("WithColumn = %s, %v, want %s", sql, args, want)
	}
	in, ok = SplitInsert("INSERT INTO `t` (`a`) VALUES (?), (?)", Options{MySQL: true})
	if sql, args := in.Some(1); !ok || sql != "INSERT INTO `t` (`a`) VALUES (?)" || !reflect.DeepEqual(args, []int{1}) {
		t.Errorf("Some(1) = %s, %v, %t", sql, args, ok)
	}
	for _, sql := range []string{`UPDATE t SET a = (1)`, `INSERT INTO t SELECT (1)`, `INSERT INTO t (a) VALUES (?`, `INSERT INTO t (a) VALUES (?) ON CONFLICT (a) DO UPDATE SET b = ?`, `INSERT INTO t`, ``} {
		if in, ok := SplitInsert(sql, Options{}); ok {
			t.Errorf("SplitInsert(%s) = %v, want none", sql, in)
		}
	}
}
