package sqlstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// shape is a way in which rows are spread over tables, and what a rotation of one name
// must do with them.
type shape struct {
	name string
	// sql makes the tables, with COLUMNS for those of the model without the primary
	// key. The rows with the ids 1 to 90 are then inserted into the table people.
	sql []string
	// after is executed when the rows are there.
	after []string
	// declared is the name that a program has: people if it is empty.
	declared string
	sees     int64  // rows of the name; the others must stay as they are
	refused  string // by plan, run, verify and retire
	noRun    string // by run alone
	part     string // by retire alone
}

const shapeRows = 90

var (
	twoTables = []string{"CREATE TABLE people (id bigint PRIMARY KEY, COLUMNS)", "CREATE TABLE cities (id bigint PRIMARY KEY, person bigint NOT NULL, city text)"}
	oneCity   = "INSERT INTO cities SELECT id, id, 'Paris' FROM people"
	columns   = "encrypted_kms_key, email_ciphertext, phone_ciphertext"
)

// shapesOfAll are those that PostgreSQL, MariaDB and MySQL have.
var shapesOfAll = []shape{
	{name: "view of a table", sql: twoTables, after: []string{"CREATE VIEW v AS SELECT * FROM people"}, declared: "v", sees: 90},
	{name: "view of a view", sql: twoTables, after: []string{"CREATE VIEW inside AS SELECT * FROM people", "CREATE VIEW v AS SELECT i.* FROM inside i"}, declared: "v", sees: 90},
	{
		name: "view of some rows", sql: twoTables, after: []string{"CREATE VIEW v AS SELECT * FROM people WHERE id % 3 = 0"}, declared: "v", sees: 30,
		part: "v has 30 of the 90 rows of ",
	},
	{
		name: "view that repeats rows", sql: twoTables, declared: "v", refused: "has several rows with id=",
		after: []string{oneCity, "INSERT INTO cities SELECT id + 100, id, 'Rome' FROM people WHERE id = 7", "CREATE VIEW v AS SELECT p.*, c.city FROM people p JOIN cities c ON c.person = p.id"},
	},
	{
		name: "view without a key", sql: twoTables, declared: "v", refused: "id is NULL",
		after: []string{"CREATE VIEW v AS SELECT CASE WHEN id > 80 THEN NULL ELSE id END AS id, " + columns + " FROM people"},
	},
	{
		name: "view that takes no update", sql: twoTables, declared: "v", sees: 90, noRun: "v is a view that takes no UPDATE",
		after: []string{"CREATE VIEW v AS SELECT DISTINCT * FROM people"},
	},
	{
		name: "no unique key", sql: []string{"CREATE TABLE people (id bigint, COLUMNS)"}, sees: 90,
	},
	{
		name: "no unique key, and repeated ids", sql: []string{"CREATE TABLE people (id bigint, COLUMNS)"}, refused: "has several rows with id=7",
		after: []string{"INSERT INTO people SELECT * FROM people WHERE id = 7"},
	},
}

var shapesOfPostgres = []shape{
	{
		name: "partitions", sees: 90,
		sql: []string{
			"CREATE TABLE people (id bigint PRIMARY KEY, COLUMNS) PARTITION BY RANGE (id)", "CREATE TABLE people_low PARTITION OF people FOR VALUES FROM (1) TO (31)",
			"CREATE TABLE people_rest PARTITION OF people DEFAULT PARTITION BY HASH (id)",
			"CREATE TABLE people_a PARTITION OF people_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0)", "CREATE TABLE people_b PARTITION OF people_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
		},
	},
	{
		name: "one partition", declared: "people_low", sees: 30, part: "people_low has 30 of the 90 rows of people",
		sql: []string{
			"CREATE TABLE people (id bigint PRIMARY KEY, COLUMNS) PARTITION BY RANGE (id)", "CREATE TABLE people_low PARTITION OF people FOR VALUES FROM (1) TO (31)",
			"CREATE TABLE people_high PARTITION OF people DEFAULT",
		},
	},
	{
		name: "partitions by another column", sees: 90,
		sql: []string{"CREATE TABLE people (id bigint, year int DEFAULT 2026, COLUMNS, PRIMARY KEY (id, year)) PARTITION BY LIST (year)", "CREATE TABLE people_2025 PARTITION OF people FOR VALUES IN (2025)", "CREATE TABLE people_2026 PARTITION OF people FOR VALUES IN (2026)"},
	},
	{
		name: "an id in two partitions", refused: "has several rows with id=7",
		sql:   []string{"CREATE TABLE people (id bigint, year int DEFAULT 2026, COLUMNS, PRIMARY KEY (id, year)) PARTITION BY LIST (year)", "CREATE TABLE people_2025 PARTITION OF people FOR VALUES IN (2025)", "CREATE TABLE people_2026 PARTITION OF people FOR VALUES IN (2026)"},
		after: []string{"INSERT INTO people (id, year, " + columns + ") SELECT id, 2025, " + columns + " FROM people WHERE id = 7"},
	},
	{
		name: "a table that others inherit", sees: 90, sql: inherited, after: []string{moveSome},
	},
	{
		name: "an id in parent and child", refused: "has several rows with id=7", sql: inherited, after: []string{moveSome, "INSERT INTO people_old SELECT * FROM ONLY people WHERE id = 7"},
	},
	{
		name: "a table that inherits", declared: "people_old", sees: 30, part: "people_old has 30 of the 90 rows of people", sql: inherited, after: []string{moveSome},
	},
	{
		name: "a table that inherits from one without keys", sees: 90,
		sql: []string{"CREATE TABLE stamped (made timestamptz DEFAULT now())", "CREATE TABLE other () INHERITS (stamped)", "CREATE TABLE people (id bigint PRIMARY KEY, COLUMNS) INHERITS (stamped)"},
	},
	{
		name: "view of a partition", declared: "v", sees: 30, part: "v has 30 of the 90 rows of people",
		sql:   []string{"CREATE TABLE people (id bigint PRIMARY KEY, COLUMNS) PARTITION BY RANGE (id)", "CREATE TABLE people_low PARTITION OF people FOR VALUES FROM (1) TO (31)", "CREATE TABLE people_high PARTITION OF people DEFAULT"},
		after: []string{"CREATE VIEW v AS SELECT * FROM people_low"},
	},
	{
		name: "view of two tables with a trigger", sql: twoTables, declared: "v", sees: 90,
		after: []string{
			oneCity, "CREATE VIEW v AS SELECT p.*, c.city FROM people p JOIN cities c ON c.person = p.id",
			`CREATE FUNCTION move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE people SET encrypted_kms_key = NEW.encrypted_kms_key WHERE id = OLD.id; RETURN NEW; END $$`,
			"CREATE TRIGGER move INSTEAD OF UPDATE ON v FOR EACH ROW EXECUTE FUNCTION move()",
		},
	},
	{
		name: "view of two tables", sql: twoTables, declared: "v", sees: 90, noRun: "v is a view that takes no UPDATE",
		after: []string{oneCity, "CREATE VIEW v AS SELECT p.*, c.city FROM people p JOIN cities c ON c.person = p.id"},
	},
	{
		name: "materialized view", sql: twoTables, declared: "v", sees: 90, noRun: "v is a view that takes no UPDATE", after: []string{"CREATE MATERIALIZED VIEW v AS SELECT * FROM people"},
	},
	{
		name: "view whose owner does not see all", sql: twoTables, declared: "v", refused: "row level security may hide rows of people from the view v",
		after: []string{
			"CREATE VIEW v AS SELECT * FROM people", "ALTER TABLE people ENABLE ROW LEVEL SECURITY", "CREATE POLICY below ON people USING (id < 50)",
			"DO $$ BEGIN CREATE ROLE sees_some; EXCEPTION WHEN duplicate_object THEN NULL; END $$", "GRANT SELECT, UPDATE ON people TO sees_some", "ALTER VIEW v OWNER TO sees_some",
		},
	},
	{
		name: "view of a function", sql: twoTables, declared: "v", sees: 90, noRun: "v is a view that takes no UPDATE",
		after: []string{"CREATE FUNCTION everybody() RETURNS SETOF people LANGUAGE sql AS 'SELECT * FROM people'", "CREATE VIEW v AS SELECT * FROM everybody()"},
	},
}

var (
	inherited = []string{"CREATE TABLE people (id bigint PRIMARY KEY, COLUMNS)", "CREATE TABLE people_old (PRIMARY KEY (id)) INHERITS (people)"}
	moveSome  = "WITH moved AS (DELETE FROM ONLY people WHERE id % 3 = 0 RETURNING *) INSERT INTO people_old SELECT * FROM moved"
)

var shapesOfMariaDB = []shape{
	{name: "partitions", sees: 90, sql: []string{"CREATE TABLE people (id bigint PRIMARY KEY, COLUMNS) PARTITION BY HASH (id) PARTITIONS 4"}},
	{
		name: "partitions by another column", sees: 90,
		sql: []string{"CREATE TABLE people (id bigint, year int DEFAULT 2026, COLUMNS, PRIMARY KEY (id, year)) PARTITION BY LIST (year) (PARTITION a VALUES IN (2025), PARTITION b VALUES IN (2026))"},
	},
	{
		name: "an id in two partitions", refused: "has several rows with id=7",
		sql:   []string{"CREATE TABLE people (id bigint, year int DEFAULT 2026, COLUMNS, PRIMARY KEY (id, year)) PARTITION BY LIST (year) (PARTITION a VALUES IN (2025), PARTITION b VALUES IN (2026))"},
		after: []string{"INSERT INTO people (id, year, " + columns + ") SELECT id, 2025, " + columns + " FROM people WHERE id = 7"},
	},
	{
		name: "view of two tables", sql: twoTables, declared: "v", sees: 90,
		after: []string{oneCity, "CREATE VIEW v AS SELECT p.*, c.city FROM people p JOIN cities c ON c.person = p.id"},
	},
	{
		name: "view of two tables without some rows", sql: twoTables, declared: "v", sees: 90 - 30, part: "v has 60 of the 90 rows of ",
		after: []string{oneCity, "DELETE FROM cities WHERE id % 3 = 0", "CREATE VIEW v AS SELECT p.*, c.city FROM people p JOIN cities c ON c.person = p.id"},
	},
	{
		name: "view in a table of its own", sql: twoTables, declared: "v", sees: 90, noRun: "v is a view that takes no UPDATE",
		after: []string{"CREATE ALGORITHM = TEMPTABLE VIEW v AS SELECT * FROM people"},
	},
}

func TestShapesPostgres(t *testing.T) { testShapes(t, postgres, shapesOfAll, shapesOfPostgres) }
func TestShapesMariaDB(t *testing.T)  { testShapes(t, mariadb, shapesOfAll, shapesOfMariaDB) }
func TestShapesMySQL(t *testing.T)    { testShapes(t, mysql, shapesOfAll, shapesOfMariaDB) }

func testShapes(t *testing.T, d database, shapes ...[]shape) {
	t.Parallel()
	for _, some := range shapes {
		for _, s := range some {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				testShape(t, d, s)
			})
		}
	}
}

// A row is counted once, moved once and opened once, or the reason is told.
func testShape(t *testing.T, d database, s shape) {
	dir, db := t.TempDir(), d.open(t)
	if s.declared == "" {
		s.declared = "people"
	}
	old := model[person](t, box(t, dir, 1), "people")
	makeShape(t, d, db, old, s)
	b := box(t, dir, 2)
	m, err := field.NewModel[person](b, field.Config{Table: s.declared, Name: old.Adapter().Name(), As: "people"})
	must(t, err)
	r := rotator(t, d, db, b, m, rotation.Options{Shards: 5, Workers: 3, BatchSize: 7})

	refuses := func(what, want string, err error) {
		t.Helper()
		if want != "" && (!errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s = %v, want ErrConfig with %q", what, err, want)
		}
	}
	plan, err := r.Plan(t.Context())
	refuses("Plan()", s.refused, err)
	if s.refused != "" {
		_, err := r.Run(t.Context())
		refuses("Run()", s.refused, err)
		_, err = r.Verify(t.Context(), rotation.VerifyOptions{})
		refuses("Verify()", s.refused, err)
		_, err = r.Retirable(t.Context(), 1)
		refuses("Retirable()", s.refused, err)
		if counts := versions(t, db, "people"); counts[2] > 0 {
			t.Errorf("%v rows by version after refusals", counts)
		}
		return
	}
	if err != nil || plan.Records != s.sees || plan.Keys != s.sees {
		t.Errorf("Plan() = %d records, %d keys, %v, want %d", plan.Records, plan.Keys, err, s.sees)
	}
	result, err := r.Run(t.Context())
	if s.noRun != "" {
		refuses("Plan()", s.noRun, plan.Refused)
		refuses("Run()", s.noRun, err)
		if v, err := r.Verify(t.Context(), rotation.VerifyOptions{}); err != nil || v.Opened != s.sees {
			t.Errorf("Verify() = %+v, %v", v, err)
		}
		return
	}
	if err != nil || !result.Done || result.Written != s.sees || result.Failed > 0 || result.Conflicts > 0 {
		t.Fatalf("Run() = %+v, %v, want %d written", result, err, s.sees)
	}
	if status, _, err := r.Status(t.Context()); err != nil || status.Planned != s.sees || status.Written != s.sees {
		t.Errorf("Status() = %+v, %v", status, err)
	}
	if counts := versions(t, db, "people"); counts[2] != int(s.sees) || counts[1] != shapeRows-int(s.sees) {
		t.Errorf("%v rows by version, want %d at 2", counts, s.sees)
	}
	if v, err := r.Verify(t.Context(), rotation.VerifyOptions{Note: true}); err != nil || v.Opened != s.sees || !v.Clean(2) {
		t.Errorf("Verify() = %+v, %v", v, err)
	}
	if n, err := r.ClearJournal(t.Context(), 0); err != nil || n != s.sees {
		t.Errorf("ClearJournal() = %d, %v", n, err)
	}
	is, err := r.Retirable(t.Context(), 1)
	refuses("Retirable()", s.part, err)
	if s.part == "" && (err != nil || is.Err() != nil) {
		t.Errorf("Retirable() = %+v, %v", is, err)
	}
	load(t, db, old) // those that moved and those that did not
}

// makeShape makes the tables with their rows.
func makeShape(t *testing.T, d database, db *sqlx.DB, old *field.Model[person], s shape) {
	t.Helper()
	ddl, err := old.DDL(d.dialect)
	must(t, err)
	execute := func(statements []string) {
		t.Helper()
		for _, statement := range statements {
			if _, err := db.Exec(strings.ReplaceAll(statement, "COLUMNS", strings.Join(ddl, ", "))); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}
	execute(s.sql)
	people := make([]*person, shapeRows)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprint("person ", i+1))}
	}
	insert(t, db, old, people)
	execute(s.after)
}

// Without the definition of a view nobody can tell what it leaves out.
func TestHiddenViewMariaDB(t *testing.T) {
	t.Parallel()
	dir, dsn := t.TempDir(), mariadb.dsn(t)
	db := mariadb.connect(t, dsn)
	old := model[person](t, box(t, dir, 1), "people")
	makeShape(t, mariadb, db, old, shape{sql: twoTables, after: []string{"CREATE VIEW v AS SELECT * FROM people"}})
	must(t, sqlstore.CreateTables(t.Context(), db.DB, mariadb.dialect))
	user := "reader_" + strings.ToLower(old.Adapter().Name()) + fmt.Sprint(len(dsn))
	db.MustExec("CREATE USER " + user + " IDENTIFIED BY 'x'")
	t.Cleanup(func() { db.MustExec("DROP USER " + user) })
	for _, table := range []string{"v", "kms_rotations", "kms_rotation_shards", "kms_rotation_failures", "kms_rotation_journal"} {
		db.MustExec("GRANT SELECT, INSERT, UPDATE, DELETE ON " + table + " TO " + user)
	}
	b := box(t, dir, 2)
	m, err := field.NewModel[person](b, field.Config{Table: "v", Name: old.Adapter().Name(), As: "people"})
	must(t, err)
	s, err := sqlstore.New(t.Context(), mariadb.connect(t, user+":x"+dsn[strings.LastIndex(dsn, "@"):]).DB, mariadb.dialect, m, sqlstore.Options{})
	must(t, err)
	r, err := rotation.New(b, s, rotation.Options{})
	must(t, err)
	if result, err := r.Run(t.Context()); err != nil || result.Written != shapeRows {
		t.Errorf("Run() = %+v, %v", result, err)
	}
	if _, err := r.Retirable(t.Context(), 1); !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(err.Error(), "does not tell which tables the view v shows") {
		t.Errorf("Retirable() of a view without SHOW VIEW = %v", err)
	}
}
