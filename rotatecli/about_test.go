package rotatecli_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// A large table is estimated from the statistics of the database, and the estimate is
// marked. Rows that are gone since are in it: --exact counts those that are left.
func TestAbout(t *testing.T) {
	t.Parallel()
	n := newNight(t, onPostgres)
	n.fill(1)
	const rows, left = 300_000, 100_000
	n.exec("ALTER TABLE customers SET (autovacuum_enabled = false)",
		"INSERT INTO customers (id, encrypted_kms_key) SELECT i, encrypted_kms_key FROM customers, generate_series(2, 300000) AS i",
		"ANALYZE customers", "DELETE FROM customers WHERE id % 3 > 0")
	n.ops(0, "rotate init")

	n.says(n.ops(0, "rotate plan --to 2"), "about 300,000 rows", "v1 300,000", "about 600,100 KMS calls")
	n.says(n.ops(0, "rotate status"), "about v1 300,000", "about 300,000 keys to go to v2")
	exact := n.ops(0, "rotate plan --to 2 --exact") + n.ops(0, "rotate status --exact")
	n.says(exact, "100,000 rows", "v1 100,000", "200,100 KMS calls", "100,000 keys to go to v2")
	n.lacks(exact, "about")

	for command, want := range map[string]struct {
		isAbout bool
		rows    int64
	}{
		"rotate plan --to 2 --json":         {true, rows},
		"rotate plan --to 2 --json --exact": {false, left},
		"rotate status --json":              {true, rows},
		"rotate status --json --exact":      {false, left},
	} {
		var told []struct {
			About    bool
			Versions []struct{ Rows int64 }
		}
		n.must(json.Unmarshal([]byte(n.ops(0, command)), &told))
		if len(told) != 1 || told[0].About != want.isAbout || len(told[0].Versions) != 1 || told[0].Versions[0].Rows != want.rows {
			t.Errorf("ops %s = %+v, want %+v", command, told, want)
		}
	}
}

// lacks checks that the output of a command does not hold a text.
func (n *night) lacks(said, text string) {
	n.Helper()
	if strings.Contains(said, text) {
		n.Errorf("want no %q in:\n%s", text, said)
	}
}
