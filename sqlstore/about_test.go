package sqlstore_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

func TestAboutPostgres(t *testing.T) {
	testAbout(t, postgres, "SELECT i, %s FROM generate_series(1, %d) AS i", "CASE WHEN i %% 10 = 0 THEN NULL WHEN i <= %d THEN 'v2:' || md5(i::text) ELSE 'v1:' || md5(i::text) END", "ANALYZE keyed")
}

func TestAboutMariaDB(t *testing.T) {
	testAbout(t, mariadb, "SELECT i, %s FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700) SELECT a.i + 700 * (b.i - 1) AS i FROM n AS a, n AS b) AS all_of WHERE i <= %d",
		"CASE WHEN i %% 10 = 0 THEN NULL WHEN i <= %d THEN concat('v2:', md5(i)) ELSE concat('v1:', md5(i)) END", "ANALYZE TABLE keyed")
}

// A large table is estimated, and a small one is not.
func testAbout(t *testing.T, d database, rows, key, analyze string) {
	t.Parallel()
	const n, moved = 400_000, 100_000
	dir, db := t.TempDir(), d.open(t)
	b := box(t, dir, 2)
	m, err := field.NewModel[keyOnly](b, field.Config{Table: "keyed", KeysOnly: true})
	must(t, err)
	create(t, d, db, m, "id bigint PRIMARY KEY")
	s, err := sqlstore.New(t.Context(), db.DB, d.dialect, m, sqlstore.Options{})
	must(t, err)
	if counts, ok, err := s.About(t.Context()); ok || err != nil {
		t.Errorf("About() of an empty table = %v, %t, %v, want none", counts, ok, err)
	}
	_, err = db.Exec("INSERT INTO keyed " + fmt.Sprintf(rows, fmt.Sprintf(key, moved), n))
	must(t, err)
	_, err = db.Exec(analyze)
	must(t, err)
	began := time.Now()
	counts, ok, err := s.About(t.Context())
	took := time.Since(began)
	must(t, err)
	if !ok {
		t.Fatal("About() of a large table has no estimate")
	}
	exact, err := s.Count(t.Context(), "")
	must(t, err)
	got := make(map[rotation.VersionCount]int64)
	for _, c := range counts {
		at := c
		at.Rows = 0
		got[at] = c.Rows
	}
	for _, c := range exact {
		at := c
		at.Rows = 0
		// The statistics of MariaDB may be off by as much.
		if off := math.Abs(float64(got[at]-c.Rows)) / n; off > 0.25 {
			t.Errorf("About() = %v, want about %v", counts, exact)
		}
	}
	t.Logf("%v in %v, and counted %v", counts, took, exact)
	r, err := rotation.New(b, s, rotation.Options{})
	must(t, err)
	about, err := r.CostAbout(t.Context(), rotation.Prices{})
	must(t, err)
	cost, err := r.Cost(t.Context(), rotation.Prices{})
	must(t, err)
	if off := math.Abs(float64(about.Records-cost.Records)) / n; !about.About || cost.About || off > 0.25 {
		t.Errorf("CostAbout() = %+v, want about %+v", about.Plan, cost.Plan)
	}
}

// SQLite has no statistics, so that everything is counted there.
func TestAboutSQLite(t *testing.T) {
	t.Parallel()
	dir, db := t.TempDir(), sqlite.open(t)
	b := box(t, dir, 2)
	m := model[person](t, b, "people")
	create(t, sqlite, db, m, "id integer PRIMARY KEY")
	insert(t, db, m, []*person{{ID: 1, Email: field.New("somebody@example.org")}})
	about, err := rotator(t, sqlite, db, b, m, rotation.Options{}).CostAbout(t.Context(), rotation.Prices{})
	must(t, err)
	if about.About || len(about.Versions) != 1 || about.Versions[0].Rows != 1 {
		t.Errorf("CostAbout() = %+v, want one record, counted", about.Plan)
	}
}
