package e2e

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// The largest public user of the Ruby gem rotates 33 million records each October. This
// plays it in small: three tables with 39 encrypted attributes, one of them with several
// kinds of records in it, all with indexes; a key service with a quota that takes 5 ms a
// call, and of which production, which goes on reading and writing, uses a fifth; the
// rotating process is killed twice, and the database crashes once.
//
// Rows and quota are scaled alike, so that a run takes as long as its rows take at the
// quota:
//
//	REPLAY_ROWS=10000000 REPLAY_QUOTA=7000 .ci/long replay

// replayed is a record of any of the tables.
type replayed struct {
	ID      int64             `db:"id"`
	Kind    string            `db:"type"`
	Updated time.Time         `db:"updated_at"`
	Key     field.Key         `db:"encrypted_kms_key"`
	A       field.Of[*string] `db:"a_ciphertext"`
	B       field.Of[*string] `db:"b_ciphertext"`
	C       field.Of[*string] `db:"c_ciphertext"`
	D       field.Of[*string] `db:"d_ciphertext"`
	E       field.Of[*string] `db:"e_ciphertext"`
	F       field.Of[*string] `db:"f_ciphertext"`
	G       field.Of[*string] `db:"g_ciphertext"`
	H       field.Of[*string] `db:"h_ciphertext"`
	I       field.Of[*string] `db:"i_ciphertext"`
	J       field.Of[*string] `db:"j_ciphertext"`
	K       field.Of[*string] `db:"k_ciphertext"`
	L       field.Of[*string] `db:"l_ciphertext"`
	M       field.Of[*string] `db:"m_ciphertext"`
}

func (r *replayed) attributes() []*field.Of[*string] {
	return []*field.Of[*string]{&r.A, &r.B, &r.C, &r.D, &r.E, &r.F, &r.G, &r.H, &r.I, &r.J, &r.K, &r.L, &r.M}
}

// replayedTables are the tables, and the kinds of records in each.
var replayedTables = []struct {
	name  string
	kinds []string
}{{"people", []string{"Person", "Veteran", "Dependent"}}, {"claims", []string{"Claim"}}, {"letters", []string{"Letter"}}}

// hasAttribute: each record has a third of its attributes.
func hasAttribute(id int64, n int) bool { return (id+int64(n))%3 == 0 }

// attribute is what production has not changed.
func attribute(table string, id int64, n int) *string {
	if !hasAttribute(id, n) {
		return nil
	}
	return new(fmt.Sprintf("%s %d, attribute %d", table, id, n))
}

const (
	replayDelay = 5 * time.Millisecond
	// productionShare is of the quota; the rotation may use the rest.
	productionShare = 0.2
	replayPrice     = 0.03 / 10_000 // USD a call
)

var replayStart = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)

func replayBox(current int, kms *keyService) (*kmsencrypted.Box, error) {
	return kmsencrypted.Config{Current: current, Concurrency: 64, Versions: map[int]kmsencrypted.Version{
		1: {Provider: kms.key(1)}, 2: {Provider: kms.key(2)},
	}}.Box()
}

func replayModel(box *kmsencrypted.Box, table string) (*field.Model[replayed], error) {
	return field.NewModel[replayed](box, field.Config{Table: table})
}

func init() { executors["replay"] = runReplay }

// runReplay is the process that rotates all tables, within one limit.
func runReplay(ctx context.Context, o order) error {
	box, err := replayBox(2, newKeyService(o.Service))
	if err != nil {
		return err
	}
	db, err := sql.Open("pgx", o.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	options := o.options()
	options.Calls = rotation.NewLimiter(o.Rate)
	options.MaxWait = time.Minute
	var group sync.WaitGroup
	errs := make([]error, len(replayedTables))
	for i, t := range replayedTables {
		group.Go(func() { errs[i] = rotateReplayed(ctx, db, box, t.name, options) })
	}
	group.Wait()
	return errors.Join(errs...)
}

func rotateReplayed(ctx context.Context, db *sql.DB, box *kmsencrypted.Box, table string, o rotation.Options) error {
	m, err := replayModel(box, table)
	if err != nil {
		return err
	}
	store, err := sqlstore.New(ctx, db, field.Postgres, m, sqlstore.Options{})
	if err != nil {
		return err
	}
	r, err := rotation.New(box, store, o)
	if err != nil {
		return err
	}
	_, err = r.Run(ctx)
	return err
}

func replaySize(t testing.TB, variable string, usual int64) int64 {
	t.Helper()
	n, err := strconv.ParseInt(cmp.Or(os.Getenv(variable), fmt.Sprint(usual)), 10, 64)
	must(t, err)
	return n
}

func TestReplayPostgres(t *testing.T) {
	if os.Getenv("KMSENCRYPTED_POSTGRES_DSN") != "" {
		t.Skip("the server is crashed, so it must be one of its own")
	}
	each := replaySize(t, "KMSENCRYPTED_REPLAY_ROWS", 20_000) / int64(len(replayedTables))
	quota := float64(replaySize(t, "KMSENCRYPTED_REPLAY_QUOTA", 1_800)) // calls a second
	dsn := dbserver.Postgres(t)
	pool, err := connect(t.Context(), dsn)
	must(t, err)
	t.Cleanup(pool.Close)
	fillReplay(t, pool, dsn, each)
	// No commit may be lost in the crash. The server is that of other tests, too.
	setCommit := func(ctx context.Context, state string) {
		for _, statement := range []string{"ALTER SYSTEM SET synchronous_commit = " + state, "SELECT pg_reload_conf()"} {
			_, err := pool.Exec(ctx, statement)
			must(t, err)
		}
	}
	setCommit(t.Context(), "on")
	t.Cleanup(func() { setCommit(context.Background(), "off") })
	kms := serveKeys(t, quota)
	p := newProduction(t, pool, kms.address, each, quota*productionShare)
	p.work(t, 3*time.Second)
	before := p.report()

	o := order{DSN: dsn, Executor: "replay", Version: 2, Kind: rotation.Rewrap, Workers: 2, Shards: 64, Batch: 500, Lease: 2 * time.Second,
		Rate: quota * (1 - productionShare), Service: kms.address}
	all := each * int64(len(replayedTables))
	kms.startCounting()
	began := time.Now()
	worker := start(t, o)
	ended := make(chan struct{})
	go func() { p.until(ended) }()
	for i, event := range []string{"kill", "crash", "kill"} {
		written := writtenBy(t, pool, all*int64(i+1)/4)
		switch event {
		case "kill":
			if !worker.kill(t) {
				t.Fatal("the process was done before it was killed")
			}
			worker = start(t, o)
		case "crash":
			crash(t, pool)
		}
		t.Logf("%s after %d rows, %.1f s", event, written, time.Since(began).Seconds())
	}
	worker.wait(t)
	took := time.Since(began)
	calls, throttled, production := kms.counts()
	close(ended)
	p.wait()
	during := p.report()

	share := float64(calls) / (quota * (1 - productionShare) * took.Seconds())
	counted(t, "%d rows in %.1f s, %.0f a second; quota %.0f calls/s: %d calls of the rotation used %.3f of what %d of production left, %d throttled; %.2f USD",
		all, took.Seconds(), float64(all)/took.Seconds(), quota, calls, share, production, throttled, float64(calls)*replayPrice)
	counted(t, "production: p50 %v, p99 %v of %d before, p50 %v, p99 %v of %d during the rotation; %d conflicts read again, %d tries while the database was away",
		before.p50, before.p99, before.n, during.p50, during.p99, during.n, during.conflicts, during.away)
	if throttled > 0 {
		t.Errorf("%d calls were throttled", throttled)
	}
	if share > 1.02 {
		t.Errorf("the rotation used %.3f of what it may", share)
	}
	checkReplay(t, pool, p, each)
}

func fillReplay(t *testing.T, pool *pgxpool.Pool, dsn string, rows int64) {
	box, err := replayBox(1, nil)
	must(t, err)
	for _, table := range replayedTables {
		m, err := replayModel(box, table.name)
		must(t, err)
		columns, err := m.DDL(field.Postgres)
		must(t, err)
		exec := func(query string) { _, err := pool.Exec(t.Context(), query); must(t, err) }
		exec("CREATE TABLE " + table.name + " (id bigint PRIMARY KEY, type text NOT NULL, updated_at timestamptz NOT NULL, " + strings.Join(columns, ", ") + ")")
		exec("CREATE INDEX ON " + table.name + " (type, updated_at)")
		eachPageOf(t, rows, func(from, to int64) error {
			list := make([]replayed, to-from+1)
			for i := range list {
				id := from + int64(i)
				list[i] = replayed{ID: id, Kind: table.kinds[id%int64(len(table.kinds))], Updated: replayStart}
				for n, a := range list[i].attributes() {
					a.Set(attribute(table.name, id, n))
				}
			}
			return kmspgx.CopyFrom(t.Context(), pool, m, field.Pointers(list)...)
		})
		exec("VACUUM ANALYZE " + table.name)
	}
	db, err := sql.Open("pgx", dsn)
	must(t, err)
	defer db.Close()
	must(t, sqlstore.CreateTables(t.Context(), db, field.Postgres))
}

// writtenBy waits until all runs together have written so many rows.
func writtenBy(t *testing.T, pool *pgxpool.Pool, rows int64) (written int64) {
	t.Helper()
	for deadline := time.Now().Add(24 * time.Hour); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		err := pool.QueryRow(t.Context(), "SELECT coalesce(sum(written), 0) FROM kms_rotation_shards").Scan(&written)
		if err == nil && written >= rows {
			return written
		}
	}
	t.Fatal("it takes too long")
	return 0
}

// checkReplay opens every row, and compares it with what was filled in and written by
// production since.
func checkReplay(t *testing.T, pool *pgxpool.Pool, p *production, rows int64) {
	t.Helper()
	// The key itself, without the service: the quota is not for tests.
	box, err := replayBox(2, nil)
	must(t, err)
	for i, table := range replayedTables {
		var old, touched int64
		must(t, pool.QueryRow(t.Context(), "SELECT count(*) FILTER (WHERE encrypted_kms_key NOT LIKE 'v2:%'), count(*) FILTER (WHERE updated_at <> $1) FROM "+table.name, replayStart).Scan(&old, &touched))
		if want := int64(len(p.changed[i])); old != 0 || touched != want {
			t.Errorf("%s: %d rows at an old version, want none; updated_at of %d changed, want %d that production wrote", table.name, old, touched, want)
		}
		m, err := replayModel(box, table.name)
		must(t, err)
		var whole atomic.Int64
		eachPageOf(t, rows, func(from, to int64) error {
			found, _ := pool.Query(t.Context(), "SELECT * FROM "+table.name+" WHERE id BETWEEN $1 AND $2", from, to)
			list, err := kmspgx.CollectRows(t.Context(), found, m)
			if err != nil {
				return err
			}
			for j := range list {
				if isReplayed(&list[j], table.name, p.changed[i][list[j].ID]) {
					whole.Add(1)
				}
			}
			return nil
		})
		if whole.Load() != rows {
			t.Errorf("%s: %d rows of %d have their values", table.name, whole.Load(), rows)
		}
	}
}

// isReplayed compares a record; changed is what production wrote into its first attribute.
func isReplayed(r *replayed, table string, changed *string) bool {
	for n, a := range r.attributes() {
		want := attribute(table, r.ID, n)
		if n == 0 && changed != nil {
			want = changed
		}
		if got := a.Must(); (got == nil) != (want == nil) || got != nil && *got != *want {
			return false
		}
	}
	return true
}

// production reads and writes records at a rate, each with one call to the key service.
type production struct {
	pool   *pgxpool.Pool
	models []*field.Model[replayed]
	rows   int64
	every  time.Duration

	mu        sync.Mutex
	times     []time.Duration
	conflicts int
	away      int
	changed   []map[int64]*string // of each table, by id
	group     sync.WaitGroup
}

func newProduction(t *testing.T, pool *pgxpool.Pool, address string, rows int64, rate float64) *production {
	kms := newKeyService(address)
	kms.production = true
	box, err := replayBox(1, kms)
	must(t, err)
	p := &production{pool: pool, rows: rows, every: time.Duration(float64(time.Second) / rate)}
	for _, table := range replayedTables {
		m, err := replayModel(box, table.name)
		must(t, err)
		p.models, p.changed = append(p.models, m), append(p.changed, make(map[int64]*string))
	}
	return p
}

func (p *production) work(t *testing.T, d time.Duration) {
	ended := make(chan struct{})
	time.AfterFunc(d, func() { close(ended) })
	p.until(ended)
	p.wait()
}

func (p *production) wait() { p.group.Wait() }

// until begins an operation at each tick, whether or not those before have ended.
func (p *production) until(ended <-chan struct{}) {
	p.group.Add(1)
	defer p.group.Done()
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	busy := make(chan struct{}, 12) // connections that it may take
	for n := 0; ; n++ {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		busy <- struct{}{}
		p.group.Go(func() {
			defer func() { <-busy }()
			p.operation(n)
		})
	}
}

// operation reads a record, and changes each fifth. Each id is of one operation at a time,
// because n counts up.
func (p *production) operation(n int) {
	table, id := n%len(p.models), rand.Int64N(p.rows)/64*64+int64(n%64)+1
	if id > p.rows {
		id = p.rows
	}
	began := time.Now()
	for range 600 {
		err := p.try(table, id, n)
		p.mu.Lock()
		switch {
		case err == nil:
			p.times = append(p.times, time.Since(began))
			p.mu.Unlock()
			return
		case errors.Is(err, kmsencrypted.ErrConflict):
			p.conflicts++
		default:
			p.away++
			began = time.Time{} // not a time of production
		}
		p.mu.Unlock()
		if began.IsZero() {
			time.Sleep(50 * time.Millisecond)
			began = time.Now()
		}
	}
	panic("production does not get on")
}

func (p *production) try(table int, id int64, n int) error {
	ctx := context.Background()
	found, err := p.pool.Query(ctx, "SELECT * FROM "+replayedTables[table].name+" WHERE id = $1", id)
	if err != nil {
		return err
	}
	r, err := kmspgx.CollectOneRow(ctx, found, p.models[table])
	if err != nil || n%5 != 0 {
		return err
	}
	text := fmt.Sprint("changed by ", n)
	r.A.Set(&text)
	r.Updated = time.Now()
	if err := kmspgx.Update(ctx, p.pool, p.models[table], &r, "updated_at"); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed[table][id] = &text
	return nil
}

type percentiles struct {
	p50, p99        time.Duration
	n               int
	conflicts, away int
}

// report returns the times since the last report.
func (p *production) report() percentiles {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(p.times)
	at := func(share float64) time.Duration {
		if len(p.times) == 0 {
			return 0
		}
		return p.times[int(share*float64(len(p.times)-1))].Round(100 * time.Microsecond)
	}
	r := percentiles{at(0.5), at(0.99), len(p.times), p.conflicts, p.away}
	p.times, p.conflicts, p.away = nil, 0, 0
	return r
}
