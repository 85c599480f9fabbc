package sqldialect

import "testing"

func TestText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, got, want string }{
		{"Quoted", Postgres.Quoted(`a"b`), `"a""b"`},
		{"Quoted", MySQL.Quoted("a`b"), "`a``b`"},
		{"Quoted", SQLite.Quoted("a`b"), "`a``b`"},
		{"Defined", SQLite.Defined(`a"b`), `"a""b"`},
		{"QuotedTable", Postgres.QuotedTable("app.users"), `"app"."users"`},
		{"QuotedTable", SQLite.QuotedTable("users"), "`users`"},
		{"SQL", Postgres.SQL("a = ? AND b = ?{lock}"), "a = $1 AND b = $2 FOR UPDATE"},
		{"SQL", SQLite.SQL("a = ? AND b = ?{lock}"), "a = ? AND b = ?"},
		{"Placeholder", Postgres.Placeholder(12), "$12"},
		{"Same", MySQL.Same(), "<=>"},
	} {
		if c.got != c.want {
			t.Errorf("%s = %q, want %q", c.name, c.got, c.want)
		}
	}
}
