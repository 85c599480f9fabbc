package sqlstore_test

import (
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

func TestSchemasPostgres(t *testing.T) {
	testSchemas(t, postgres, "CREATE SCHEMA %s", func(dsn, schema string) string { return dsn + "&search_path=" + schema + ",public" })
}

func TestSchemasMariaDB(t *testing.T) { testSchemas(t, mariadb, "CREATE DATABASE %s", nil) }

// Tables of the same name in several schemas share a ledger, and no run. connect is
// nil where a connection sees one schema, and tables of others are named with theirs.
func testSchemas(t *testing.T, d database, creating string, connect func(dsn, schema string) string) {
	t.Parallel()
	dir, dsn := t.TempDir(), d.dsn(t)
	admin := d.connect(t, dsn)
	must(t, sqlstore.CreateTables(t.Context(), admin.DB, d.dialect))
	const n = 100
	b := box(t, dir, 2)
	stores, dbs, tables := make([]*sqlstore.Store[person], 3), make([]*sqlx.DB, 3), make([]string, 3)
	for i := range stores {
		schema := fmt.Sprintf("tenant_%c_%d", 'a'+i, i) // databases of one server are shared by its tests
		tables[i], dbs[i] = schema+".people", admin
		switch {
		case i == 2: // in the ledger's own schema
			tables[i] = "people"
		case connect != nil:
			admin.MustExec(fmt.Sprintf(creating, schema))
			tables[i], dbs[i] = "people", d.connect(t, connect(dsn, schema))
		default:
			admin.MustExec(fmt.Sprintf(creating, schema))
			t.Cleanup(func() { admin.MustExec("DROP DATABASE " + schema) })
		}
		old := model[person](t, box(t, dir, 1), tables[i])
		create(t, d, dbs[i], old, "id bigint PRIMARY KEY")
		people := make([]*person, n)
		for j := range people {
			people[j] = &person{ID: int64(j + 1), Email: field.New("e")}
		}
		insert(t, dbs[i], old, people)
		s, err := sqlstore.New(t.Context(), dbs[i].DB, d.dialect, model[person](t, b, tables[i]), sqlstore.Options{})
		must(t, err)
		stores[i] = s
	}
	rotators := make([]*rotation.Rotator, len(stores))
	for i, s := range stores {
		r, err := rotation.New(b, s, rotation.Options{})
		must(t, err)
		rotators[i] = r
	}
	// One is begun, and stays; the others know nothing of it.
	_, err := rotators[0].Begin(t.Context())
	must(t, err)
	for i, r := range rotators[1:] {
		if s, found, err := r.Status(t.Context()); found || err != nil {
			t.Errorf("Status() of table %d = %+v, %v, and no run of it began", i+1, s, err)
		}
	}
	for i, r := range rotators {
		result, err := r.Run(t.Context())
		must(t, err)
		if !result.Done || result.Written != n || versions(t, dbs[i], tables[i])[2] != n {
			t.Errorf("Run() of table %d = %+v, and %v", i, result, versions(t, dbs[i], tables[i]))
		}
		if history, err := r.History(t.Context(), 0); len(history) != 1 || err != nil {
			t.Errorf("History() of table %d has %d runs, %v", i, len(history), err)
		}
	}
	// A name with and one without its schema are the same table.
	qualified := "public.people"
	if connect == nil {
		must(t, admin.Get(&qualified, "SELECT concat(database(), '.people')"))
	}
	s, err := sqlstore.New(t.Context(), admin.DB, d.dialect, model[person](t, b, qualified), sqlstore.Options{})
	must(t, err)
	if history, err := s.History(t.Context(), 0); len(history) != 1 || err != nil {
		t.Errorf("History() of %s has %d runs, %v; want that of people", qualified, len(history), err)
	}
}
