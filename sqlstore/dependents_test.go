package sqlstore_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// dependents notes in the transaction which records were moved.
type dependents struct {
	mu      sync.Mutex
	refuse  string // a record that cannot be moved
	rekeyed int    // records with another key
	covers  string // a table
}

func (d *dependents) KeyColumn() string { return "encrypted_kms_key" }

func (d *dependents) Covers(table string) bool { return table == d.covers }

func (d *dependents) Rotated(ctx context.Context, tx *sql.Tx, records []field.Rotated) error {
	var failures field.Failures
	for i, r := range records {
		if r.ID[0] == d.refuse {
			failures = append(failures, field.Failure{Index: i, Err: kmsencrypted.ErrDecrypt})
			continue
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO moved (id) VALUES ("+r.ID[0]+")"); err != nil {
			return err
		}
		_, err := r.Old.Raw()
		_, err2 := r.New.Raw()
		d.mu.Lock()
		if errors.Join(err, err2) == nil && !r.Old.Equal(r.New) {
			d.rekeyed++
		}
		d.mu.Unlock()
	}
	if failures != nil {
		return failures
	}
	return nil
}

func TestDependentsSQLite(t *testing.T)   { testDependents(t, sqlite) }
func TestDependentsPostgres(t *testing.T) { testDependents(t, postgres) }
func TestDependentsMariaDB(t *testing.T)  { testDependents(t, mariadb) }
func TestDependentsMySQL(t *testing.T)    { testDependents(t, mysql) }
func TestDependentsMySQLish(t *testing.T) { testDependents(t, mysqlLike) }

// What hangs on a record is moved with it or not at all.
func testDependents(t *testing.T, d database) {
	t.Parallel()
	const n = 40
	dir, db := t.TempDir(), d.connect(t, d.dsn(t))
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	db.MustExec("CREATE TABLE moved (id bigint NOT NULL)")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprint("person ", i+1))}
	}
	insert(t, db, old, people)
	b := box(t, dir, 3)
	m := model[person](t, b, "people")
	for kind, refuse := range map[rotation.Kind]string{rotation.Rewrap: "", rotation.Rekey: "17"} {
		if kind == rotation.Rewrap {
			b, m = box(t, dir, 2), model[person](t, box(t, dir, 2), "people")
		} else {
			b = box(t, dir, 3)
			m = model[person](t, b, "people")
		}
		db.MustExec("DELETE FROM moved")
		hangs := &dependents{refuse: refuse}
		s, err := sqlstore.New(t.Context(), db.DB, d.dialect, m, sqlstore.Options{Dependents: []field.Dependents{hangs}})
		must(t, err)
		must(t, s.CreateTables(t.Context()))
		r, err := rotation.New(b, s, rotation.Options{Kind: kind, WritersAreOurs: true, BatchSize: 10, Workers: 2, Shards: 4})
		must(t, err)
		result, err := r.Run(t.Context())
		must(t, err)
		want := n
		if refuse != "" {
			want--
		}
		var moved int
		must(t, db.Get(&moved, "SELECT count(DISTINCT id) FROM moved"))
		if int(result.Written) != want || moved != want {
			t.Errorf("%s: %d written and %d moved, want %d", kind, result.Written, moved, want)
		}
		if kind == rotation.Rewrap && hangs.rekeyed > 0 || kind == rotation.Rekey && hangs.rekeyed < want {
			t.Errorf("%s: %d records with another data key", kind, hangs.rekeyed)
		}
		failures, err := r.Failures(t.Context(), 0)
		must(t, err)
		if (refuse != "") != (len(failures) == 1 && failures[0].Record == "id="+refuse && failures[0].Class == "decrypt") {
			t.Errorf("%s: failures = %+v", kind, failures)
		}
	}
	load(t, db, m)
}

// A rekey without the manager of the files that a table has does not begin.
func TestRekeyWithoutDependentsSQLite(t *testing.T)   { testWithoutDependents(t, sqlite) }
func TestRekeyWithoutDependentsPostgres(t *testing.T) { testWithoutDependents(t, postgres) }
func TestRekeyWithoutDependentsMariaDB(t *testing.T)  { testWithoutDependents(t, mariadb) }
func TestRekeyWithoutDependentsMySQL(t *testing.T)    { testWithoutDependents(t, mysql) }
func TestRekeyWithoutDependentsMySQLish(t *testing.T) { testWithoutDependents(t, mysqlLike) }

func testWithoutDependents(t *testing.T, d database) {
	t.Parallel()
	dir, db := t.TempDir(), d.connect(t, d.dsn(t))
	b := box(t, dir, 1)
	m := model[person](t, b, "people")
	create(t, d, db, m, "id bigint PRIMARY KEY")
	files, err := field.NewModel[person](b, field.Config{Table: "people", Files: true})
	must(t, err)
	start := func(m *field.Model[person], kind rotation.Kind, given ...field.Dependents) error {
		s, err := sqlstore.New(t.Context(), db.DB, d.dialect, m, sqlstore.Options{Dependents: given})
		must(t, err)
		must(t, s.CreateTables(t.Context()))
		run := rotation.Run{ID: rand.Text(), Kind: kind, Target: 1, Pass: 1, State: rotation.RunActive}
		err = s.Start(t.Context(), run, []rotation.Range{{}})
		if err == nil {
			must(t, s.SetState(t.Context(), run.ID, rotation.RunCanceled))
		}
		return err
	}
	rotatorOf := func(m *field.Model[person], given ...field.Dependents) *rotation.Rotator {
		s, err := sqlstore.New(t.Context(), db.DB, d.dialect, m, sqlstore.Options{Dependents: given})
		must(t, err)
		r, err := rotation.New(b, s, rotation.Options{Kind: rotation.Rekey, WritersAreOurs: true})
		must(t, err)
		return r
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s = %v, want ErrConfig", what, err)
		}
	}
	must(t, start(m, rotation.Rekey))
	refused("a model with files", start(files, rotation.Rekey))
	must(t, start(files, rotation.Rewrap))
	must(t, start(files, rotation.Rekey, new(dependents)))
	for table, column := range map[string]string{"kms_attachments": "record_table", "active_storage_attachments": "record_type"} {
		db.MustExec("CREATE TABLE " + table + " (" + column + " varchar(100))")
		db.MustExec("INSERT INTO " + table + " VALUES ('others')")
		must(t, start(m, rotation.Rekey))
		db.MustExec("INSERT INTO " + table + " VALUES ('people')")
		refused("a row in "+table, start(m, rotation.Rekey))
		refused("a row in "+table+" that the manager does not cover", start(files, rotation.Rekey, &dependents{covers: "others"}))
		must(t, start(files, rotation.Rekey, &dependents{covers: table}))
		must(t, start(files, rotation.Rekey, new(dependents), &dependents{covers: table}))
		plan, err := rotatorOf(m).Plan(t.Context())
		if err != nil || !errors.Is(plan.Refused, kmsencrypted.ErrConfig) {
			t.Errorf("a row in %s: Plan = %v, %v, want it refused", table, plan.Refused, err)
		}
		// A run that a process with the manager began is not for one without it.
		with, without := rotatorOf(files, &dependents{covers: table}), rotatorOf(m)
		run, err := with.Begin(t.Context())
		must(t, err)
		_, err = without.Begin(t.Context())
		refused("resuming without the manager", err)
		_, err = without.Work(t.Context(), run.ID, rotation.AnyShard, 1)
		refused("working without the manager", err)
		if resumed, err := with.Begin(t.Context()); err != nil || resumed.ID != run.ID {
			t.Errorf("resuming with the manager = %v, %v, want run %s", resumed.ID, err, run.ID)
		}
		must(t, with.Cancel(t.Context()))
		if plan, err = rotatorOf(files, &dependents{covers: table}).Plan(t.Context()); err != nil || plan.Refused != nil {
			t.Errorf("a row in %s with its manager: Plan = %v, %v", table, plan.Refused, err)
		}
		db.MustExec("DROP TABLE " + table)
	}
	if _, err := sqlstore.New(t.Context(), db.DB, d.dialect, model[person](t, b, "people"), sqlstore.Options{Dependents: []field.Dependents{otherColumn{}}}); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("New with dependents of another column = %v, want ErrConfig", err)
	}
}

type otherColumn struct{ field.Dependents }

func (otherColumn) KeyColumn() string { return "other" }
