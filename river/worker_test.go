package kmsriver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

type customer struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

const rows = 300

// table has rows at version 1 and a counter of the writes of each.
type table struct {
	db      *sql.DB
	dialect field.Dialect
}

func sqliteTable(t *testing.T) table {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "t.sqlite3")+"?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)")
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return newTable(t, db, field.SQLite)
}

func newTable(t *testing.T, db *sql.DB, d field.Dialect) table {
	t.Helper()
	customers, err := field.NewModel[customer](box(t, 1), field.Config{Table: "customers"})
	must(t, err)
	list := make([]customer, rows)
	for i := range list {
		list[i] = customer{ID: int64(i + 1), Email: field.New("somebody@example.org")}
	}
	must(t, customers.SealNew(t.Context(), field.Pointers(list)...))
	tx, err := db.Begin()
	must(t, err)
	exec := func(query string, args ...any) {
		_, err := tx.Exec(query, args...)
		must(t, err)
	}
	exec("CREATE TABLE customers (id bigint PRIMARY KEY, encrypted_kms_key text, email_ciphertext text)")
	for _, c := range list {
		exec("INSERT INTO customers VALUES ($1, $2, $3)", c.ID, c.Key, c.Email)
	}
	must(t, tx.Commit())
	return table{db, d}
}

func box(t *testing.T, current int) *kmsencrypted.Box {
	t.Helper()
	b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{
		1: {Provider: testkey.New()}, 2: {Provider: testkey.New()}, 3: {Provider: testkey.New()},
	}}.Box()
	must(t, err)
	return b
}

func (n table) rotator(t *testing.T, version int, o rotation.Options) *rotation.Rotator {
	t.Helper()
	b := box(t, version)
	customers, err := field.NewModel[customer](b, field.Config{Table: "customers"})
	must(t, err)
	store, err := sqlstore.New(t.Context(), n.db, n.dialect, customers, sqlstore.Options{})
	must(t, err)
	must(t, store.CreateTables(t.Context()))
	if o.Shards == 0 {
		o.Shards = 8
	}
	if o.BatchSize == 0 {
		o.BatchSize = 10
	}
	r, err := rotation.New(b, store, o)
	must(t, err)
	return r
}

func (n table) at(t *testing.T, version int) (count int) {
	t.Helper()
	must(t, n.db.QueryRow(fmt.Sprintf("SELECT count(*) FROM customers WHERE encrypted_kms_key LIKE 'v%d:%%'", version)).Scan(&count))
	return count
}

// inserter is a queue without a database.
type inserter struct {
	jobs []river.InsertManyParams
	err  error
}

func (i *inserter) InsertMany(_ context.Context, params []river.InsertManyParams) ([]*rivertype.JobInsertResult, error) {
	i.jobs = append(i.jobs, params...)
	return nil, i.err
}

// begun is a worker with the first job of a run.
func begun(t *testing.T, r *rotation.Rotator) (*Worker, *river.Job[Job]) {
	t.Helper()
	var queue inserter
	status, err := Start(t.Context(), &queue, r)
	must(t, err)
	if len(queue.jobs) != status.Shards || status.Shards == 0 {
		t.Fatalf("%d jobs, want %d", len(queue.jobs), status.Shards)
	}
	w, err := NewWorker(r)
	must(t, err)
	w.turn = time.Hour // a slow machine ends none
	return w, &river.Job[Job]{JobRow: new(rivertype.JobRow), Args: queue.jobs[0].Args.(Job)}
}

func TestWork(t *testing.T) {
	t.Parallel()
	n := sqliteTable(t)
	r := n.rotator(t, 2, rotation.Options{})
	w, job := begun(t, r)
	must(t, w.Work(t.Context(), job))
	status, _, err := r.Status(t.Context())
	must(t, err)
	if status.State != rotation.RunDone || status.Written != rows || n.at(t, 2) != rows {
		t.Errorf("after one job of its run: %+v", status)
	}
	must(t, w.Work(t.Context(), job)) // again, after the run
	if _, err := Start(t.Context(), &inserter{err: errors.New("no connection")}, r); err == nil || !strings.Contains(err.Error(), "insert the jobs of customers: no connection") {
		t.Errorf("Start = %v, want the error of the queue", err)
	}
}

// A job that River gives out twice, or four times, at the same time.
func TestWorkTwice(t *testing.T) {
	t.Parallel()
	n := sqliteTable(t)
	_, err := n.db.Exec("CREATE TABLE writes (id bigint)")
	must(t, err)
	_, err = n.db.Exec("CREATE TRIGGER count_writes AFTER UPDATE ON customers BEGIN INSERT INTO writes VALUES (new.id); END")
	must(t, err)
	r := n.rotator(t, 2, rotation.Options{})
	w, job := begun(t, r)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := w.Work(t.Context(), job); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	var writes, written int
	must(t, n.db.QueryRow("SELECT count(*), count(DISTINCT id) FROM writes").Scan(&writes, &written))
	if writes != rows || written != rows || n.at(t, 2) != rows {
		t.Errorf("%d writes of %d rows, want %d; %d at the version", writes, written, rows, n.at(t, 2))
	}
}

func TestWorkTurns(t *testing.T) {
	t.Parallel()
	n := sqliteTable(t)
	const batch = 20 * time.Millisecond
	w, job := begun(t, n.rotator(t, 2, rotation.Options{BatchSize: 20, Observe: func(e rotation.Event) {
		if e.Type == rotation.EventBatch {
			time.Sleep(batch)
		}
	}}))
	w.turn = 4 * batch
	turns := 1
	for ; ; turns++ {
		err := w.Work(t.Context(), job)
		if err == nil {
			break
		}
		if snooze, ok := errors.AsType[*river.JobSnoozeError](err); !ok || snooze.Duration != 0 {
			t.Fatalf("turn %d = %v, want a snooze of 0 s", turns, err)
		}
	}
	// At least 15 batches with records and 8 that find none in the second pass,
	// at most 5 of them in a turn.
	if n.at(t, 2) != rows || turns < 23/5 {
		t.Errorf("%d rows after %d turns", n.at(t, 2), turns)
	}
}

// Others hold the only shard.
func TestWorkWaits(t *testing.T) {
	t.Parallel()
	n := sqliteTable(t)
	w, job := begun(t, n.rotator(t, 2, rotation.Options{Shards: 1}))
	_, err := n.db.Exec("UPDATE kms_rotation_shards SET owner = 'another', lease_until = 9000000000000")
	must(t, err)
	w.turn = time.Millisecond
	if snooze, ok := errors.AsType[*river.JobSnoozeError](w.Work(t.Context(), job)); !ok || snooze.Duration != afterWait {
		t.Errorf("Work = %v, want a snooze of %s", snooze, afterWait)
	}
	w.turn = time.Hour
	stopped, stop := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, stop)
	if err := w.Work(stopped, job); !errors.Is(err, context.Canceled) {
		t.Errorf("Work while the client stops = %v, want Canceled", err)
	}
}

func TestWorkPaused(t *testing.T) {
	t.Parallel()
	n := sqliteTable(t)
	r := n.rotator(t, 2, rotation.Options{})
	w, job := begun(t, r)
	must(t, r.Pause(t.Context()))
	if snooze, ok := errors.AsType[*river.JobSnoozeError](w.Work(t.Context(), job)); !ok || snooze.Duration != whilePaused {
		t.Errorf("Work of a paused run = %v, want a snooze", snooze)
	}
	if _, err := Start(t.Context(), new(inserter), r); !errors.Is(err, rotation.ErrPaused) {
		t.Errorf("Start of a paused run = %v, want ErrPaused", err)
	}
	must(t, r.Resume(t.Context()))
	must(t, w.Work(t.Context(), job))
	if n.at(t, 2) != rows {
		t.Errorf("%d rows after the run was resumed", n.at(t, 2))
	}
}

func TestWorkCancelled(t *testing.T) {
	t.Parallel()
	n := sqliteTable(t)
	r := n.rotator(t, 2, rotation.Options{})
	w, job := begun(t, r)
	must(t, r.Cancel(t.Context()))
	must(t, w.Work(t.Context(), job))
	if n.at(t, 2) != 0 {
		t.Errorf("a job of a cancelled run wrote %d rows", n.at(t, 2))
	}
}

// A process that was not deployed yet, or knows other tables.
func TestWorkElsewhere(t *testing.T) {
	t.Parallel()
	n := sqliteTable(t)
	_, job := begun(t, n.rotator(t, 2, rotation.Options{}))
	w, err := NewWorker(n.rotator(t, 3, rotation.Options{}))
	must(t, err)
	if err := w.Work(t.Context(), job); !errors.Is(err, kmsencrypted.ErrConflict) || n.at(t, 1) != rows {
		t.Errorf("Work with another current version = %v, want ErrConflict", err)
	}
	w, err = NewWorker()
	must(t, err)
	if err := w.Work(t.Context(), job); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Work without a rotator of the table = %v, want ErrConfig", err)
	}
	r := n.rotator(t, 2, rotation.Options{})
	if _, err := NewWorker(r, r); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("NewWorker with a table twice = %v, want ErrConfig", err)
	}
}

func TestWorkTooManyFailures(t *testing.T) {
	t.Parallel()
	n := sqliteTable(t)
	_, err := n.db.Exec("UPDATE customers SET encrypted_kms_key = 'v1:broken' WHERE id <= 20")
	must(t, err)
	r := n.rotator(t, 2, rotation.Options{MaxFailures: 15})
	w, job := begun(t, r)
	err = w.Work(t.Context(), job)
	if cancel, ok := errors.AsType[*river.JobCancelError](err); !ok || !errors.Is(cancel, rotation.ErrTooManyFailures) {
		t.Errorf("Work = %v, want a cancelled job with ErrTooManyFailures", err)
	}
	if status, _, err := r.Status(t.Context()); err != nil || status.State != rotation.RunPaused {
		t.Errorf("Status = %+v, %v, want it paused", status, err)
	}
}

// A job whose time is over finishes its batch: only the client ends it.
func TestUntilStopped(t *testing.T) {
	t.Parallel()
	late, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-late.Done()
	ctx, end := untilStopped(late)
	defer end()
	if sleep.For(ctx, 10*time.Millisecond) != nil {
		t.Error("the timeout of a job ended its work")
	}
	stopped, stop := context.WithCancel(t.Context())
	ctx, end = untilStopped(stopped)
	defer end()
	stop()
	if err := sleep.For(ctx, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("after the client stopped: %v, want Canceled", err)
	}
}

func TestNextRetry(t *testing.T) {
	t.Parallel()
	w, err := NewWorker()
	must(t, err)
	for _, test := range []struct {
		errors int
		ago    time.Duration
		want   time.Duration
	}{{0, 0, time.Second}, {1, 0, 2 * time.Second}, {4, time.Minute, 16 * time.Second}, {20, 0, time.Minute}, {20, time.Hour, time.Second}} {
		job := &river.Job[Job]{JobRow: new(rivertype.JobRow)}
		for range test.errors {
			job.Errors = append(job.Errors, rivertype.AttemptError{At: time.Now().Add(-test.ago)})
		}
		if got := time.Until(w.NextRetry(job)).Round(time.Second); got != test.want {
			t.Errorf("NextRetry after %d errors %s ago = in %s, want %s", test.errors, test.ago, got, test.want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
