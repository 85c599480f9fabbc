package sqlstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

func TestOlderLedgerPostgres(t *testing.T) { testOlderLedger(t, postgres) }
func TestOlderLedgerMariaDB(t *testing.T)  { testOlderLedger(t, mariadb) }
func TestOlderLedgerSQLite(t *testing.T)   { testOlderLedger(t, sqlite) }

// Tables of an older release, with a run of it that is not finished: everything says what
// to do, and after that the run goes on. The older release can still use the tables.
func testOlderLedger(t *testing.T, d database) {
	t.Parallel()
	const n = 60
	dir, db := t.TempDir(), d.open(t)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprint("person ", i+1))}
	}
	insert(t, db, old, people)
	b := box(t, dir, 2)
	m := model[person](t, b, "people")
	r := rotator(t, d, db, b, m, rotation.Options{Kind: rotation.Rekey, BatchSize: 5, Workers: 1, Limit: 20})
	if result, err := r.Run(t.Context()); err != nil || result.Written != 20 {
		t.Fatalf("Run() = %+v, %v", result, err)
	}
	// The first version of the tables had neither of these columns; a table may also be
	// between the versions, if adding them was interrupted.
	added := []struct{ table, column string }{{"kms_rotation_journal", "store"}, {"kms_rotations", "no_journal"}, {"kms_rotations", "part"}, {"kms_rotation_shards", "reading"}, {"kms_rotation_shards", "writing"}}
	db.MustExec("UPDATE kms_tables SET version = 1 WHERE name = 'rotations'")
	for _, a := range added {
		db.MustExec("ALTER TABLE " + a.table + " DROP COLUMN " + a.column)
		errs := uses(t, r)
		if a.table == "kms_rotation_journal" { // which only a run needs
			errs = map[string]error{"Run()": errs["Run()"]}
		}
		for what, err := range errs {
			if !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(err.Error(), `call CreateTables, or type "rotate init"`) {
				t.Errorf("without %s: %s = %v, want what to do", a.column, what, err)
			}
		}
	}
	if counts := versions(t, db, "people"); counts[2] != 20 {
		t.Errorf("%v records by version after refusals, want 20 at 2", counts)
	}
	must(t, sqlstore.CreateTables(t.Context(), db.DB, d.dialect))
	finish(t, r, n)

	// A run that the older release begins: it names its own columns only.
	b = box(t, dir, 3)
	m = model[person](t, b, "people")
	r = rotator(t, d, db, b, m, rotation.Options{Kind: rotation.Rekey})
	db.MustExec(`INSERT INTO kms_rotations (id, table_name, kind, target, pass, state, planned, active, started) VALUES ('older', 'people', 'rekey', 3, 1, 'active', 60, 1, 9000000000000)`)
	db.MustExec(`INSERT INTO kms_rotation_shards (rotation_id, shard, from_key, after_key, to_key, done, owner, lease_until, beat, written, conflicts, calls, busy, pass_changes, pass_conflicts, pass_failed)
		VALUES ('older', 0, '', '', '', 0, '', 0, 0, 0, 0, 0, 0, 0, 0, 0)`)
	db.MustExec(`INSERT INTO kms_rotation_journal (rotation_id, table_name, record, key_column, wrapped_key) VALUES ('older', 'people', '["i1"]', 'encrypted_kms_key', 'v2:old')`)
	if status, found, err := r.Status(t.Context()); err != nil || !found || status.ID != "older" || status.Part != "" || status.NoJournal || status.Stages != (rotation.Stages{}) {
		t.Errorf("Status() of the run of an older release = %+v, %v", status, err)
	}
	finish(t, r, n)
	if status, _, err := r.Status(t.Context()); err != nil || status.ID != "older" || status.State != rotation.RunDone {
		t.Errorf("Status() = %+v, %v, want the run of the older release", status, err)
	}
	if erased, err := r.ClearJournal(t.Context(), 0); err != nil || erased == 0 {
		t.Errorf("ClearJournal() = %d, %v", erased, err)
	}
	if is, err := r.Retirable(t.Context(), 2); err != nil || is.Err() != nil {
		t.Errorf("Retirable() = %+v, %v", is, err)
	}
}

// uses are the errors of what needs the ledger.
func uses(t *testing.T, r *rotation.Rotator) map[string]error {
	t.Helper()
	errs := make(map[string]error)
	_, _, errs["Status()"] = r.Status(t.Context())
	_, errs["History()"] = r.History(t.Context(), 0)
	_, errs["Run()"] = r.Run(t.Context())
	_, errs["Verify()"] = r.Verify(t.Context(), rotation.VerifyOptions{Note: true, MaxFailures: -1})
	_, errs["Retirable()"] = r.Retirable(t.Context(), 1)
	return errs
}

// finish runs until the run is done, and verifies it.
func finish(t *testing.T, r *rotation.Rotator, n int64) {
	t.Helper()
	for done := false; !done; {
		result, err := r.Run(t.Context())
		must(t, err)
		done = result.Done
	}
	if v, err := r.Verify(t.Context(), rotation.VerifyOptions{Note: true}); err != nil || v.Opened != n || len(v.Failures) > 0 {
		t.Errorf("Verify() = %+v, %v", v, err)
	}
}
