package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// failovers is how many times TestFailoverPostgres fails over; KMSENCRYPTED_FAILOVERS
// sets another number.
const failovers = 2

// visitor is a record whose index a rotation computes again.
type visitor struct {
	ID    int64           `db:"id"`
	Key   field.Key       `db:"encrypted_kms_key"`
	Seen  field.Of[int64] `db:"seen_ciphertext"`
	Index field.Index     `db:"seen_bidx" kms:"of=Seen,algorithm=hmac_sha256"`
}

// A replica that lacks the last commits becomes the primary, in the middle of a
// rotation or after its end, while programs write. What the database kept is readable
// and agrees with the ledger, a verification notices what is missing, and the same
// rotation does it again.
func TestFailoverPostgres(t *testing.T) {
	t.Parallel()
	n := failovers
	if text := os.Getenv("KMSENCRYPTED_FAILOVERS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		must(t, err)
	}
	var total failoverCounts
	for i := range n {
		f := failover{kind: []rotation.Kind{rotation.Rewrap, rotation.Rekey, rotation.Reindex}[i%3], late: i%2 == 1}
		t.Run(fmt.Sprintf("%d %s late=%t", i, f.kind, f.late), func(t *testing.T) { f.run(t) })
		total.add(f.failoverCounts)
		if t.Failed() {
			break
		}
	}
	t.Logf("counted: %d failovers, %s", n, total)
}

type failoverCounts struct {
	acknowledged, lost, unsure, again, missed int64
}

func (c *failoverCounts) add(o failoverCounts) {
	c.acknowledged += o.acknowledged
	c.lost += o.lost
	c.unsure += o.unsure
	c.again += o.again
	c.missed += o.missed
}

func (c failoverCounts) String() string {
	return fmt.Sprintf("%d writes acknowledged, %d of them lost by the database, %d that ended with the connection; %d records moved again, %d of them after the run was done",
		c.acknowledged, c.lost, c.unsure, c.again, c.missed)
}

// failover is one of them.
type failover struct {
	kind rotation.Kind
	late bool // the run ends, and is verified, before the server fails
	failoverCounts

	db      *sqlx.DB
	version int
	old     *field.Model[visitor]
	model   *field.Model[visitor]
	rotator *rotation.Rotator
	over    atomic.Bool // the new server is there
}

const visitors = 1200

func (f *failover) run(t *testing.T) {
	dsn, failOver := dbserver.PostgresFailover(t)
	f.db = postgres.connect(t, dsn)
	f.prepare(t)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	logs := make([]writerLog, 3)
	for i := range logs {
		logs[i].number = i
		writers.Go(func() { f.write(t, ctx, &logs[i], len(logs)) })
	}
	ended := make(chan rotation.Result, 1)
	go func() {
		result, err := f.rotator.Run(t.Context())
		if err != nil {
			t.Errorf("Run() = %v", err)
		}
		ended <- result
	}()
	f.waitForMoved(t, visitors/4)
	var before int64
	failOver(func() {
		at := f.status(t).Written
		if f.late {
			if result := <-ended; !result.Done {
				t.Errorf("Run() before the failover = %+v", result)
			}
			if v, err := f.verify(t); err != nil || !f.clean(v) {
				t.Errorf("Verify() before the failover = %+v, %v", v, err)
			}
		} else {
			time.Sleep(rand.N(400 * time.Millisecond))
		}
		before = f.status(t).Written
		f.again = before - at // about; the replica may have been behind
	})
	f.over.Store(true)
	if f.late {
		f.noticed(t)
	} else {
		<-ended
	}
	// The same rotation once more: it does what is missing, if anything is.
	missed := f.status(t).Written
	for f.status(t).State.Unfinished() && !t.Failed() {
		_, err := f.rotator.Run(t.Context())
		must(t, err)
	}
	if f.late {
		f.missed = f.status(t).Written - missed
	}
	stop()
	writers.Wait()
	f.check(t, logs)
}

// prepare makes the tables and the rotation.
func (f *failover) prepare(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	f.version = 2
	first, second := indexKey(t, 1), indexKey(t, 1)
	if f.kind == rotation.Reindex {
		f.version, second = 1, indexKey(t, 2)
	}
	of := func(version int, key blindindex.MasterKey) (*kmsencrypted.Box, *field.Model[visitor]) {
		b := box(t, dir, version)
		m, err := field.NewModel[visitor](b, field.Config{Table: "visitors", IndexKey: key})
		must(t, err)
		return b, m
	}
	_, f.old = of(1, first)
	create(t, postgres, f.db, f.old, "id bigint PRIMARY KEY")
	f.db.MustExec("CREATE TABLE written (number bigserial PRIMARY KEY, id bigint NOT NULL, value bigint NOT NULL)")
	rows := make([]*visitor, visitors)
	for i := range rows {
		rows[i] = &visitor{ID: int64(i + 1), Seen: field.New(int64(0))}
	}
	insert(t, f.db, f.old, rows)
	b, m := of(f.version, second)
	f.model = m
	s, err := sqlstore.New(t.Context(), f.db.DB, field.Postgres, m, sqlstore.Options{})
	must(t, err)
	must(t, s.CreateTables(t.Context()))
	f.rotator, err = rotation.New(b, s, rotation.Options{
		Kind: f.kind, WritersAreOurs: true, BatchSize: 20, Shards: 8, Workers: 3, Lease: 2 * time.Second, Calls: rotation.NewLimiter(1000),
	})
	must(t, err)
}

func indexKey(t *testing.T, n byte) blindindex.MasterKey {
	t.Helper()
	raw := make([]byte, blindindex.KeySize)
	raw[0] = n
	key, err := blindindex.NewMasterKey(raw)
	must(t, err)
	return key
}

// writerLog is what a writer knows of its writes.
type writerLog struct {
	number       int
	acknowledged []int64 // values
	kept         []int64 // of these, values that were written by the new server
	unsure       int64
}

// write sets records to values that rise, each together with a row that tells it. Every
// writer has records and values of its own.
func (f *failover) write(t *testing.T, ctx context.Context, log *writerLog, writers int) {
	for n := 1; ctx.Err() == nil; n++ {
		id := int64(rand.IntN(visitors/writers)*writers + log.number + 1)
		value := int64(n*writers + log.number)
		onNew := f.over.Load()
		err := f.set(context.WithoutCancel(ctx), id, value)
		switch {
		case err == nil:
			log.acknowledged = append(log.acknowledged, value)
			if onNew {
				log.kept = append(log.kept, value)
			}
		case errors.Is(err, kmsencrypted.ErrConflict): // read and written again by the next turn
		case errors.Is(err, kmsencrypted.ErrDecrypt), errors.Is(err, kmsencrypted.ErrBinding), errors.Is(err, kmsencrypted.ErrMalformed), errors.Is(err, kmsencrypted.ErrConfig), onNew:
			var away error
			if onNew && log.unsure < 20 { // a connection of the pool may still be that of the old server
				log.unsure++
				away = err
			}
			if away == nil {
				t.Errorf("writer %d: record %d: %v", log.number, id, err)
				return
			}
		default:
			log.unsure++
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(rand.N(3 * time.Millisecond))
	}
}

func (f *failover) set(ctx context.Context, id, value int64) error {
	tx, err := f.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var row visitor
	if err := kmssqlx.Get(ctx, tx, f.model, &row, "SELECT * FROM visitors WHERE id = $1", id); err != nil {
		return err
	}
	row.Seen.Set(value)
	if err := kmssqlx.Update(ctx, tx, f.model, &row); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO written (id, value) VALUES ($1, $2)", id, value); err != nil {
		return err
	}
	return tx.Commit()
}

func (f *failover) status(t *testing.T) rotation.Status {
	t.Helper()
	var status rotation.Status
	f.insist(t, func() (err error) {
		status, _, err = f.rotator.Status(t.Context())
		return err
	})
	return status
}

// insist tries again while the connections of the old server are in the pool.
func (f *failover) insist(t *testing.T, do func() error) {
	t.Helper()
	var err error
	for range 50 {
		if err = do(); !errors.Is(err, rotation.ErrDatabaseAway) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	must(t, err)
}

func (f *failover) waitForMoved(t *testing.T, n int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); f.status(t).Written < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d records are moved after a minute", f.status(t).Written)
		}
	}
}

func (f *failover) verify(t *testing.T) (v rotation.Verification, err error) {
	t.Helper()
	f.insist(t, func() error {
		v, err = f.rotator.Verify(t.Context(), rotation.VerifyOptions{Note: true, Derived: true, MaxFailures: -1})
		return err
	})
	return v, err
}

func (f *failover) clean(v rotation.Verification) bool {
	return v.Clean(f.version) && v.Opened == visitors
}

// noticed: the run was done and verified, and the database has lost its end.
func (f *failover) noticed(t *testing.T) {
	t.Helper()
	if status := f.status(t); !status.State.Unfinished() || !status.Verified.IsZero() {
		t.Errorf("Status() after the failover = %+v, want an unfinished run", status)
	}
	if v, err := f.verify(t); err != nil || f.clean(v) {
		t.Errorf("Verify() after the failover = %+v, %v, want what is missing", v, err)
	}
	if f.kind == rotation.Reindex {
		return
	}
	if is, err := f.rotator.Retirable(t.Context(), 1); err != nil || !errors.Is(is.Err(), rotation.ErrNotRetirable) {
		t.Errorf("Retirable() after the failover = %+v, %v", is, err)
	}
}

// check compares the records with the log of the writers that the database has, and the
// ledger with the records.
func (f *failover) check(t *testing.T, logs []writerLog) {
	t.Helper()
	var written []struct{ ID, Value int64 }
	must(t, f.db.Select(&written, "SELECT id, value FROM written ORDER BY number"))
	last, present := make(map[int64]int64), make(map[int64]bool)
	for _, w := range written {
		last[w.ID], present[w.Value] = w.Value, true
	}
	for _, row := range load(t, f.db, f.model) {
		if got := row.Seen.Must(); got != last[row.ID] {
			t.Errorf("record %d has %d, and %d was written last", row.ID, got, last[row.ID])
		}
	}
	for _, log := range logs {
		f.unsure += log.unsure
		for _, value := range log.acknowledged {
			f.acknowledged++
			if !present[value] {
				f.lost++
			}
		}
		for _, value := range log.kept {
			if !present[value] {
				t.Errorf("the new server has lost the value %d", value)
			}
		}
	}
	if v, err := f.verify(t); err != nil || !f.clean(v) {
		t.Errorf("Verify() = %+v, %v, want a clean one", v, err)
	}
	status := f.status(t)
	if status.State != rotation.RunDone || status.Verified.IsZero() {
		t.Errorf("Status() = %+v", status)
	}
	if f.kind == rotation.Reindex {
		return
	}
	var journal, records int64
	must(t, f.db.QueryRow("SELECT count(*), count(DISTINCT record) FROM kms_rotation_journal").Scan(&journal, &records))
	if counts := versions(t, f.db, "visitors"); counts[f.version] != visitors || status.Written != visitors || journal != visitors || records != visitors {
		t.Errorf("%v records by version, %d written, %d keys of %d records in the journal, want %d of each", counts, status.Written, journal, records, visitors)
	}
}
