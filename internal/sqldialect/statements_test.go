package sqldialect

import (
	"strings"
	"testing"
)

// That the statements do what they say is tested on the databases, by package
// sqlx; here is how they look.
func TestStatements(t *testing.T) {
	t.Parallel()
	before, after := MySQL.StrictParts()
	before += " "
	ids := []string{"tenant", "id"}
	table := func(d Dialect) Table { return Table{d, "billing.customers", ids} }
	for _, c := range []struct{ got, want string }{
		{table(Postgres).Insert([]string{"name", "order"}, 2),
			`INSERT INTO "billing"."customers" ("name", "order") VALUES ($1, $2), ($3, $4)`},
		{table(Postgres).Insert([]string{"id", "name"}, 1),
			`INSERT INTO "billing"."customers" ("id", "name") OVERRIDING SYSTEM VALUE VALUES ($1, $2)`},
		{table(MySQL).Insert([]string{"id", "name"}, 1),
			before + "INSERT " + after + " INTO `billing`.`customers` (`id`, `name`) VALUES (?, ?)"},
		{table(Postgres).InsertReturning([]string{"name"}, 1),
			`INSERT INTO "billing"."customers" ("name") VALUES ($1) RETURNING "tenant"`},
		{table(Postgres).SelectRows(ids, 2),
			`SELECT "tenant", "id" FROM "billing"."customers" WHERE ("tenant", "id") IN (($1, $2), ($3, $4))`},
		{table(MySQL).SelectRows(ids, 2),
			"SELECT `tenant`, `id` FROM `billing`.`customers` WHERE (`tenant`, `id`) IN ((?, ?), (?, ?)) LOCK IN SHARE MODE"},
		{table(SQLite).SelectRows(ids, 2),
			"SELECT `tenant`, `id` FROM `billing`.`customers` WHERE (`tenant`, `id`) IN (VALUES (?, ?), (?, ?))"},
		{table(SQLite).SelectRows(ids, 1),
			"SELECT `tenant`, `id` FROM `billing`.`customers` WHERE `tenant` = ? AND `id` = ?"},
		{table(SQLite).InsertReturning(nil, 1),
			"INSERT INTO `billing`.`customers` DEFAULT VALUES RETURNING `tenant`"},
		{table(MySQL).Insert(nil, 2),
			before + "INSERT " + after + " INTO `billing`.`customers` () VALUES (), ()"},
		{table(Postgres).Update([]string{"a", "b"}, []Condition{{Column: "key", Values: 1}}),
			`UPDATE "billing"."customers" SET "a" = $1, "b" = $2 WHERE "tenant" = $3 AND "id" = $4 AND "key" IS NOT DISTINCT FROM $5`},
		{table(Postgres).Update([]string{"a"}, []Condition{{Column: "key", Values: 2}, {Column: "a", Values: 1, As: "%s::text"}}),
			`UPDATE "billing"."customers" SET "a" = $1 WHERE "tenant" = $2 AND "id" = $3 AND ("key" IS NOT DISTINCT FROM $4 OR "key" IS NOT DISTINCT FROM $5) AND "a"::text IS NOT DISTINCT FROM $6`},
		{table(Postgres).Update([]string{"a"}, []Condition{{Column: "b", Values: 2, Exact: true}}),
			`UPDATE "billing"."customers" SET "a" = $1 WHERE "tenant" = $2 AND "id" = $3` +
				` AND ("b"::text COLLATE "C" IS NOT DISTINCT FROM (CASE WHEN FALSE THEN "b" ELSE $4 END)::text COLLATE "C"` +
				` OR "b"::text COLLATE "C" IS NOT DISTINCT FROM (CASE WHEN FALSE THEN "b" ELSE $5 END)::text COLLATE "C")`},
		{table(SQLite).Update([]string{"a"}, []Condition{{Column: "key", Values: 1}}),
			"UPDATE `billing`.`customers` SET `a` = ? WHERE `tenant` = ? AND `id` = ? AND `key` IS ?"},
		{table(MySQL).Update([]string{"a", "b"}, []Condition{{Column: "key", Values: 1}}),
			before + "UPDATE " + after + " `billing`.`customers` SET `a` = IF(LAST_INSERT_ID(1), `a`, NULL), `a` = ?, `b` = ? WHERE `tenant` = ? AND `id` = ? AND `key` <=> ?"},
		{table(MySQL).UpdateMany([]string{"a"}, []string{"a"}, 2),
			before + "UPDATE " + after + " `billing`.`customers` AS t JOIN (SELECT `tenant`, `id`, `a` FROM `billing`.`customers` WHERE FALSE" +
				" UNION ALL SELECT ?, ?, ? UNION ALL SELECT ?, ?, ?) AS v ON t.`tenant` = v.`tenant` AND t.`id` = v.`id` SET t.`a` = v.`a` WHERE t.`a` IS NULL"},
		{table(Postgres).Select(nil),
			`SELECT 1 FROM "billing"."customers" WHERE "tenant" = $1 AND "id" = $2`},
		{table(MySQL).Select([]string{"key"}),
			"SELECT `key` FROM `billing`.`customers` WHERE `tenant` = ? AND `id` = ? LOCK IN SHARE MODE"},
		{table(SQLite).Delete(),
			"DELETE FROM `billing`.`customers` WHERE `tenant` = ? AND `id` = ?"},
	} {
		if c.got != c.want {
			t.Errorf("statement:\n%s\nwant:\n%s", c.got, c.want)
		}
	}
}

// No name ends its quotes.
func TestNamesStayNames(t *testing.T) {
	t.Parallel()
	name := "a\"b`c'd\\e"
	for _, c := range []struct{ got, want string }{
		{Table{Postgres, name, []string{name}}.Delete(), `DELETE FROM "a""b` + "`" + `c'd\e" WHERE "a""b` + "`" + `c'd\e" = $1`},
		{Table{SQLite, name, []string{name}}.Delete(), "DELETE FROM `a\"b``c'd\\e` WHERE `a\"b``c'd\\e` = ?"},
	} {
		if c.got != c.want {
			t.Errorf("statement:\n%s\nwant:\n%s", c.got, c.want)
		}
	}
	next := Table{Postgres, name, []string{name}}.NextIDs()
	if want := `E'"a""b` + "`" + `c''d\\e"', E'a"b` + "`" + `c''d\\e'`; !strings.Contains(next, want) {
		t.Errorf("NextIDs = %s, want %s in it", next, want)
	}
}

func TestRowsPerInsert(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dialect       Dialect
		columns, want int
	}{
		{Postgres, 0, maxRows},
		{Postgres, 8, maxRows},
		{Postgres, 100, 655},
		{SQLite, 100, 327},
		{SQLite, 100_000, 1},
	} {
		if got := c.dialect.RowsPerInsert(c.columns); got != c.want {
			t.Errorf("RowsPerInsert(%d) = %d, want %d", c.columns, got, c.want)
		}
	}
}
