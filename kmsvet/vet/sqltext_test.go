package vet

import (
	"reflect"
	"testing"
)

var statementTests = map[string]statement{
	`UPDATE t SET a = ?, b = lower(?), "c" = 'x''y' WHERE id = ? AND k = ?`: {table: "t",
		set:      []assignment{{"a", value{argument: 1}}, {"b", value{}}, {"c", value{literal: true}}},
		compared: []string{"where", "id", "=", "$3", "and", "k", "=", "$4"}},
	"update only public.T as c\n-- a comment\nset c.a = $2::text, b = NULL": {table: "t",
		set: []assignment{{"a", value{argument: 2}}, {"b", value{null: true}}}},
	"INSERT INTO `t` (a, b) VALUES (?, 1.5), (?, ?)": {insert: true, table: "t",
		set: []assignment{{"a", value{argument: 1}}, {"b", value{literal: true}}}},
	`INSERT INTO t (a) VALUES ("") ON DUPLICATE KEY UPDATE a = VALUES(a), b = 2`: {insert: true, table: "t",
		set: []assignment{{"a", value{literal: true}}}, upsert: []string{"a", "b"}},
	"INSERT OR REPLACE INTO t (a) SELECT a FROM u": {insert: true, table: "t", set: []assignment{{"a", value{}}}},
}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range statementTests {
		if got, ok := parse(text); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("parse(%q) = %+v, %v,\nwant %+v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "SELECT a FROM t", "UPDATE t", "UPDATE t SET (a, b) = (1, 2)", "INSERT INTO t VALUES (1)", "updated"} {
		if got, ok := parse(text); ok {
			t.Errorf("parse(%q) = %+v, want none", text, got)
		}
	}
}

// No text panics, and what is found has names.
func FuzzParse(f *testing.F) {
	for text := range statementTests {
		f.Add(text)
	}
	f.Add(`UPDATE t SET a = ""`)
	f.Fuzz(func(t *testing.T, text string) {
		if s, ok := parse(text); ok && len(s.set) == 0 {
			t.Errorf("parse(%q) = %+v without a column", text, s)
		}
	})
}
