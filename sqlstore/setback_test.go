package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func TestSetBackSQLite(t *testing.T)   { testSetBack(t, sqlite) }
func TestSetBackPostgres(t *testing.T) { testSetBack(t, postgres) }

// A database that fails over has an earlier state: of the records and of the ledger, while
// the workers of a run remember the later one. A worker that is ahead of the ledger must
// not go on from where it is: a reindex has one pass, and would leave records out.
func testSetBack(t *testing.T, d database) {
	t.Parallel()
	const n, batch = 60, 10
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	db := d.open(t)
	service := kmstest.NewService(kmstest.Memory())
	b, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: service.Provider()}}}.Box()
	must(t, err)
	of := func(key blindindex.MasterKey) *field.Model[visitor] {
		m, err := field.NewModel[visitor](b, field.Config{Table: "visitors", IndexKey: key})
		must(t, err)
		return m
	}
	old, m := of(indexKey(t, 1)), of(indexKey(t, 2))
	create(t, d, db, old, "id bigint PRIMARY KEY")
	rows := make([]*visitor, n)
	for i := range rows {
		rows[i] = &visitor{ID: int64(i + 1), Seen: field.New(int64(i))}
	}
	insert(t, db, old, rows)
	s, err := sqlstore.New(ctx, db.DB, d.dialect, m, sqlstore.Options{})
	must(t, err)
	must(t, s.CreateTables(ctx))
	r, err := rotation.New(b, s, rotation.Options{Kind: rotation.Reindex, WritersAreOurs: true, BatchSize: batch, Shards: 1, Workers: 1, Lease: 2 * time.Second})
	must(t, err)

	var opened atomic.Int64
	replica := replica{db: db, d: d, tables: []string{"visitors", "kms_rotations", "kms_rotation_shards"}}
	service.Set(kmstest.Before(func(context.Context) error {
		switch opened.Add(1) {
		case 2*batch + 1:
			return replica.save(ctx)
		case 5*batch + 1:
			return replica.restore(ctx)
		}
		return nil
	}).On(kmsencrypted.OpUnwrap))
	result, err := r.Run(ctx)
	if err != nil || !result.Done || opened.Load() < n+2*batch {
		t.Errorf("Run() = %+v, %v after %d records were opened", result, err, opened.Load())
	}
	left := 0
	for _, row := range load(t, db, m) {
		if m.Adapter().CheckDerived(ctx, &row) != nil {
			left++
		}
	}
	if left > 0 {
		t.Errorf("done, and the indexes of %d records are old", left)
	}
	if status, _, err := r.Status(ctx); err != nil || status.Written != n {
		t.Errorf("Status() = %+v, %v, want %d written", status, err, n)
	}
}

// replica has an earlier state of tables.
type replica struct {
	db     *sqlx.DB
	d      database
	tables []string
}

// save takes the state of all tables at one moment.
func (r replica) save(ctx context.Context) error {
	return r.within(ctx, func(table string) []string {
		return []string{"CREATE TABLE earlier_" + table + " AS SELECT * FROM " + table}
	})
}

func (r replica) restore(ctx context.Context) error {
	overriding := ""
	if r.d.dialect == field.Postgres {
		overriding = " OVERRIDING SYSTEM VALUE" // of identities
	}
	return r.within(ctx, func(table string) []string {
		return []string{"DELETE FROM " + table, "INSERT INTO " + table + overriding + " SELECT * FROM earlier_" + table}
	})
}

func (r replica) within(ctx context.Context, statements func(table string) []string) error {
	options := new(sql.TxOptions)
	if r.d.dialect == field.Postgres && strings.HasPrefix(statements("")[0], "CREATE") {
		options.Isolation = sql.LevelRepeatableRead
	}
	tx, err := r.db.BeginTxx(ctx, options)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, table := range r.tables {
		for _, s := range statements(table) {
			if _, err := tx.ExecContext(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
	}
	return tx.Commit()
}

// failing is a table of people that a run moves to version 2, in a database that may fail
// over to an earlier state.
type failing struct {
	db         *sqlx.DB
	box        *kmsencrypted.Box
	old, model *field.Model[person]
	store      *sqlstore.Store[person]
	replica    replica
}

func newFailing(t *testing.T, d database, n int) failing {
	t.Helper()
	dir, db := t.TempDir(), d.open(t)
	f := failing{db: db, box: box(t, dir, 2), old: model[person](t, box(t, dir, 1), "people"),
		replica: replica{db: db, d: d, tables: []string{"people", "kms_rotations", "kms_rotation_shards", "kms_rotation_journal"}}}
	f.model = model[person](t, f.box, "people")
	create(t, d, db, f.old, "id bigint PRIMARY KEY")
	insert(t, db, f.old, numbered(n))
	var err error
	f.store, err = sqlstore.New(t.Context(), db.DB, d.dialect, f.model, sqlstore.Options{})
	must(t, err)
	must(t, f.store.CreateTables(t.Context()))
	return f
}

func TestLostEndOfPassSQLite(t *testing.T)   { testLostEndOfPass(t, sqlite) }
func TestLostEndOfPassPostgres(t *testing.T) { testLostEndOfPass(t, postgres) }

// A database that fails over has lost the end of a pass, which the process remembers. The
// pass is ended once more.
func testLostEndOfPass(t *testing.T, d database) {
	t.Parallel()
	const n = 20
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dir, db := t.TempDir(), d.open(t)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	insert(t, db, old, numbered(n))
	b := box(t, dir, 2)
	ends := 0
	r := rotator(t, d, db, b, model[person](t, b, "people"), rotation.Options{Shards: 2, Workers: 1, Observe: func(e rotation.Event) {
		if e.Type != rotation.EventPassDone {
			return
		}
		if ends++; ends == 1 {
			db.MustExec("UPDATE kms_rotations SET pass = 1, state = 'active', active = 1, ended = NULL")
			db.MustExec(fmt.Sprint("UPDATE kms_rotation_shards SET done = 1, owner = '', pass_changes = ", n/2))
		}
	}})
	if result, err := r.Run(ctx); err != nil || !result.Done || result.Written != n || ends < 2 {
		t.Errorf("Run() = %+v, %v after %d ends of a pass", result, err, ends)
	}
}

func TestSetBackToEarlierPassSQLite(t *testing.T)   { testSetBackToEarlierPass(t, sqlite) }
func TestSetBackToEarlierPassPostgres(t *testing.T) { testSetBackToEarlierPass(t, postgres) }

// In the second pass a worker reads that nothing is left, and then the database has the
// state of the first pass again, in which the same worker has the same shard at the same
// position. The shard is not done there.
func testSetBackToEarlierPass(t *testing.T, d database) {
	t.Parallel()
	const n = 20
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	f := newFailing(t, d, n)
	reads := 0
	watched := aroundRead{f.store, func(read func() (rotation.Batch, error)) (rotation.Batch, error) {
		batch, err := read()
		switch reads++; reads {
		case 1:
			err = errors.Join(err, f.replica.save(ctx))
		case 2:
			err = errors.Join(err, f.replica.restore(ctx))
		}
		return batch, err
	}}
	r, err := rotation.New(f.box, watched, rotation.Options{Shards: 1, Workers: 1, Lease: time.Second})
	must(t, err)
	if result, err := r.Run(ctx); err != nil || !result.Done || reads < 3 {
		t.Errorf("Run() = %+v, %v after %d batches were read", result, err, reads)
	}
	if counts := versions(t, f.db, "people"); counts[2] != n {
		t.Errorf("done, and there are %v records by version, want %d at 2", counts, n)
	}
	if status, _, err := r.Status(ctx); err != nil || status.Written != n {
		t.Errorf("Status() = %+v, %v, want %d written", status, err, n)
	}
}

func TestSetBackBeforeEmptyBatchSQLite(t *testing.T)   { testSetBackBeforeEmptyBatch(t, sqlite) }
func TestSetBackBeforeEmptyBatchPostgres(t *testing.T) { testSetBackBeforeEmptyBatch(t, postgres) }

// Another program has moved the records when a run reads them, so that it finds nothing to
// do. Then a database that fails over has lost what the program wrote. The shard is as it
// was, and the run must not end.
func testSetBackBeforeEmptyBatch(t *testing.T, d database) {
	t.Parallel()
	const n = 10
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	f := newFailing(t, d, n)
	reads := 0
	watched := aroundRead{f.store, func(read func() (rotation.Batch, error)) (rotation.Batch, error) {
		if reads++; reads > 1 {
			return read()
		}
		must(t, f.replica.save(ctx))
		for _, row := range load(t, f.db, f.old) {
			must(t, f.model.Rekey(ctx, &row))
			must(t, kmssqlx.Update(ctx, f.db, f.model, &row))
		}
		b, err := read()
		if err != nil || b.Len() != 0 {
			t.Errorf("Read() = %d records, %v, want none", b.Len(), err)
		}
		return b, errors.Join(err, f.replica.restore(ctx))
	}}
	r, err := rotation.New(f.box, watched, rotation.Options{Shards: 1, Workers: 1})
	must(t, err)
	if result, err := r.Run(ctx); err != nil || !result.Done || result.Written != n {
		t.Errorf("Run() = %+v, %v, want %d written", result, err, n)
	}
	if counts := versions(t, f.db, "people"); counts[2] != n {
		t.Errorf("done, and there are %v records by version, want %d at 2", counts, n)
	}
}

// aroundRead does something before and after a batch is read.
type aroundRead struct {
	*sqlstore.Store[person]
	around func(read func() (rotation.Batch, error)) (rotation.Batch, error)
}

func (s aroundRead) Read(ctx context.Context, sel rotation.Selection) (rotation.Batch, error) {
	return s.around(func() (rotation.Batch, error) { return s.Store.Read(ctx, sel) })
}
