package sqlscan

import (
	"slices"
	"testing"
)

// comparesSecret reports whether a statement compares the column secret with a
// placeholder.
func comparesSecret(sql string, o Options) bool {
	return slices.ContainsFunc(Parse(sql, o).Compared, func(c Comparison) bool {
		return len(c.Placeholders) > 0 && slices.ContainsFunc(c.Names, func(n Name) bool { return n.Column == "secret" })
	})
}

// What is compared through a query or a CASE is compared.
func TestOperands(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		`SELECT 1 FROM t WHERE secret = ?`:                                                                               true,
		`SELECT 1 FROM t WHERE ? IN (SELECT secret FROM t)`:                                                              true,
		`SELECT 1 FROM t WHERE ? = ANY (SELECT secret FROM t)`:                                                           true,
		`SELECT 1 FROM t WHERE (SELECT secret FROM t LIMIT 1) = ?`:                                                       true,
		`SELECT 1 FROM t WHERE (SELECT a FROM t UNION SELECT max(t.secret) FROM t) = ?`:                                  true,
		`SELECT 1 FROM t WHERE ? IN (SELECT * FROM (SELECT secret FROM t) q)`:                                            true,
		`SELECT 1 FROM t WHERE CASE WHEN a = 1 THEN secret ELSE a END = ?`:                                               true,
		`SELECT 1 FROM t WHERE ? = CASE WHEN a = 1 THEN secret END`:                                                      true,
		`SELECT 1 FROM t WHERE CASE secret WHEN ? THEN 1 ELSE 0 END = 1`:                                                 true,
		`SELECT 1 FROM t WHERE CASE WHEN a = 1 AND secret = ? THEN 1 END = 1`:                                            true,
		`SELECT 1 FROM t WHERE (CASE WHEN a = 1 THEN CASE b WHEN 2 THEN secret END END) = ?`:                             true,
		`SELECT 1 FROM t WHERE id IN (SELECT q.id FROM (SELECT id, secret AS e FROM t) q WHERE q.e = ?)`:                 true,
		`SELECT 1 FROM t WHERE (SELECT max(q.e) FROM (SELECT secret AS e FROM t) q) = ?`:                                 true,
		`WITH q AS (SELECT secret AS e FROM t) SELECT 1 FROM q WHERE q.e = ?`:                                            true,
		`SELECT 1 FROM (SELECT CASE WHEN a THEN secret ELSE b END AS e FROM t) q WHERE e = ?`:                            true,
		`SELECT 1 FROM t ORDER BY CASE secret WHEN ? THEN 0 ELSE 1 END`:                                                  true,
		`SELECT 1 FROM t ORDER BY CASE WHEN a = 1 THEN secret = ? END`:                                                   true,
		`SELECT 1 FROM (SELECT e AS f, f AS e FROM t) q WHERE e = ?`:                                                     false,
		`SELECT secret, CASE WHEN a = ? THEN 1 END FROM t WHERE b = ?`:                                                   false,
		`SELECT CASE WHEN secret IS NULL THEN ? ELSE b END FROM t WHERE c = ?`:                                           false,
		`SELECT * FROM (SELECT ? AS k, secret FROM t WHERE a = ?) q WHERE k = ?`:                                         false,
		`WITH q AS (SELECT ? AS k, secret FROM t) SELECT * FROM q WHERE k = ?`:                                           false,
		`(SELECT ?, secret FROM t) UNION (SELECT ?, secret FROM t)`:                                                      false,
		`INSERT INTO u (a, secret) (SELECT ?, secret FROM t)`:                                                            false,
		`SELECT secret FROM t WHERE EXISTS (SELECT secret FROM t) AND a = ?`:                                             false,
		`SELECT secret FROM t WHERE id IN (SELECT id FROM t WHERE secret IS NOT NULL AND a = ?) AND b = ? LIMIT ?`:       false,
		`UPDATE t SET a = CASE id WHEN ? THEN ? WHEN ? THEN ? END WHERE id IN (?, ?)`:                                    false,
		`SELECT t.secret FROM t JOIN (SELECT id, secret AS e FROM t) q ON q.id = t.id WHERE t.e = ? AND q.id = ?`:        false,
		`SELECT secret FROM t JOIN (SELECT ? AS k, secret FROM t) q ON q.k = t.k WHERE a = ?`:                            false,
		`SELECT id, (SELECT max(secret) FROM t) AS m, ? AS k FROM t WHERE a = ? GROUP BY id HAVING count(*) > ? LIMIT ?`: false,
	} {
		if got := comparesSecret(sql, Options{}); got != want {
			t.Errorf("Parse(%s) compares the secret: %t, want %t", sql, got, want)
		}
	}
}
