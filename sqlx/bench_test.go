package kmssqlx_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// What the package costs, on PostgreSQL over loopback with a key service in memory. The
// limit is plain sqlx with plaintext columns in a table without a key column. Where only
// this process counts the measure is its CPU time ([against.CPU]), where ours sends
// other statements it is time. What sealing and opening themselves cost is measured in
// package field.

type five struct {
	ID  int64            `db:"id"`
	Key field.Key        `db:"encrypted_kms_key"`
	A   field.Of[string] `db:"a"`
	B   field.Of[string] `db:"b"`
	C   field.Of[string] `db:"c"`
	D   field.Of[string] `db:"d"`
	E   field.Of[string] `db:"e"`
}

// plainFive is the same without encryption.
type plainFive struct {
	ID int64  `db:"id"`
	A  string `db:"a"`
	B  string `db:"b"`
	C  string `db:"c"`
	D  string `db:"d"`
	E  string `db:"e"`
}

const (
	insertPlain = "INSERT INTO plain (id, a, b, c, d, e) VALUES (:id, :a, :b, :c, :d, :e)"
	page        = 1000
)

func newFive(id int64) five {
	return five{
		ID: id, A: field.New(limit.Plaintexts[0]), B: field.New(limit.Plaintexts[1]), C: field.New(limit.Plaintexts[2]),
		D: field.New(limit.Plaintexts[3]), E: field.New(limit.Plaintexts[4]),
	}
}

func newPlainFive(id int64) plainFive {
	return plainFive{id, limit.Plaintexts[0], limit.Plaintexts[1], limit.Plaintexts[2], limit.Plaintexts[3], limit.Plaintexts[4]}
}

// bench is a database with the tables customers and plain.
type bench struct {
	*sqlx.DB
	*field.Model[five]
}

func newBench(b *testing.B) bench {
	return newBenchWith(b, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: limit.NewKey()}}})
}

func newBenchWith(b *testing.B, config kmsencrypted.Config) bench {
	b.Helper()
	db := sqlx.MustOpen("pgx", dbserver.Postgres(b))
	b.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	const rest = "a text, b text, c text, d text, e text)"
	db.MustExec("CREATE TABLE customers (id bigserial PRIMARY KEY, encrypted_kms_key text, " + rest)
	db.MustExec("CREATE TABLE plain (id bigserial PRIMARY KEY, " + rest)
	box, err := config.Box()
	must(b, err)
	m, err := field.NewModel[five](box, field.Config{Table: "customers"})
	must(b, err)
	return bench{db, m}
}

// withKeys runs a benchmark of reading with data keys that are unwrapped for each read,
// and with the keys of all records in the cache, each with a limit of its own.
func withKeys(b *testing.B, unwrapped, cached float64, measure func(b *testing.B, db bench, most float64)) {
	b.Run("unwrapped", func(b *testing.B) { measure(b, newBench(b), unwrapped) })
	b.Run("cached", func(b *testing.B) {
		measure(b, newBenchWith(b, kmsencrypted.Config{
			Current: 1, Cache: &kmsencrypted.CacheConfig{MaxAge: time.Hour},
			Versions: map[int]kmsencrypted.Version{1: {Provider: limit.NewKey()}},
		}), cached)
	})
}

// A record with an id of the program's.
func BenchmarkInsertPostgres(b *testing.B) {
	db := newBench(b)
	var id int64
	against.CPU(b, 1, 2.2, func() {
		id++
		must2(b)(db.NamedExecContext(b.Context(), insertPlain, newPlainFive(id)))
	}, func() {
		id++
		must(b, kmssqlx.Insert(b.Context(), db.DB, db.Model, new(newFive(id))))
	})
}

// The database makes the id: one statement more than plain sqlx, because the id
// has to be known before the record is sealed.
func BenchmarkInsertWithoutIDPostgres(b *testing.B) {
	db := newBench(b)
	const twoStatements = 2 * 1.35
	against.Limit(b, twoStatements, func() {
		r := newPlainFive(0)
		must(b, db.GetContext(b.Context(), &r.ID, "INSERT INTO plain (a, b, c, d, e) VALUES ($1, $2, $3, $4, $5) RETURNING id", r.A, r.B, r.C, r.D, r.E))
	}, func() {
		r := newFive(0)
		must(b, kmssqlx.Insert(b.Context(), db.DB, db.Model, &r))
	})
}

func BenchmarkUpdatePostgres(b *testing.B) {
	db := newBench(b)
	plain, r := newPlainFive(1), newFive(1)
	must2(b)(db.NamedExecContext(b.Context(), insertPlain, plain))
	must(b, kmssqlx.Insert(b.Context(), db.DB, db.Model, &r))
	against.Limit(b, 1.35, func() {
		must2(b)(db.NamedExecContext(b.Context(), "UPDATE plain SET a = :a WHERE id = :id", plain))
	}, func() {
		r.A.Set(limit.Plaintexts[0])
		must(b, kmssqlx.Update(b.Context(), db.DB, db.Model, &r))
	})
}

func BenchmarkGetPostgres(b *testing.B) {
	withKeys(b, 2.0, 1.8, func(b *testing.B, db bench, most float64) {
		must2(b)(db.NamedExecContext(b.Context(), insertPlain, newPlainFive(1)))
		must(b, kmssqlx.Insert(b.Context(), db.DB, db.Model, new(newFive(1))))
		against.CPU(b, 1, most, func() {
			var r plainFive
			must(b, db.GetContext(b.Context(), &r, "SELECT * FROM plain WHERE id = $1", 1))
		}, func() {
			var r five
			must(b, kmssqlx.Get(b.Context(), db.DB, db.Model, &r, "SELECT * FROM customers WHERE id = $1", 1))
		})
	})
}

func BenchmarkInsert1000Postgres(b *testing.B) {
	db := newBench(b)
	against.CPU(b, page, 5.5, func() {
		db.MustExec("TRUNCATE plain")
		must2(b)(db.NamedExecContext(b.Context(), insertPlain, newPlainPage()))
	}, func() {
		db.MustExec("TRUNCATE customers")
		must(b, kmssqlx.Insert(b.Context(), db.DB, db.Model, field.Pointers(newPage())...))
	})
}

func BenchmarkSelect1000Postgres(b *testing.B) {
	withKeys(b, 10, 6.5, func(b *testing.B, db bench, most float64) {
		must2(b)(db.NamedExecContext(b.Context(), insertPlain, newPlainPage()))
		must(b, kmssqlx.Insert(b.Context(), db.DB, db.Model, field.Pointers(newPage())...))
		against.CPU(b, page, most, func() {
			var rows []plainFive
			must(b, db.SelectContext(b.Context(), &rows, "SELECT * FROM plain ORDER BY id"))
		}, func() {
			var rows []five
			must(b, kmssqlx.Select(b.Context(), db.DB, db.Model, &rows, "SELECT * FROM customers ORDER BY id"))
		})
	})
}

// slowKey is a key service that takes 5 ms for an unwrap.
type slowKey struct {
	limit.Key
	calls *atomic.Int64
}

func (slowKey) InMemory(impossible) {} // takes the mark of limit.Key away

type impossible struct{}

func (k slowKey) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	k.calls.Add(1)
	time.Sleep(5 * time.Millisecond)
	return k.Key.Decrypt(ctx, ciphertext, ec)
}

// A page of 100 rows is a call for each, n at a time; the limit reads the same rows
// by plain sqlx and makes these calls and nothing else. With a cache that holds
// the keys there are none.
func BenchmarkSelectPagePostgres(b *testing.B) {
	for _, n := range []int{10, 25, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := newSlowPage(b, n, nil)
			against.Limit(b, 1.15, func() {
				var read []closedFive
				must(b, p.SelectContext(b.Context(), &read, p.query))
				sideBySide(p.rows, n, func() {
					must2(b)(p.key.Decrypt(b.Context(), p.wrapped, kmsencrypted.BoundContext{}))
				})
			}, func() { p.read(b, p.rows) })
		})
	}
	b.Run("cached", func(b *testing.B) {
		p := newSlowPage(b, 50, &kmsencrypted.CacheConfig{})
		p.read(b, p.rows)
		for b.Loop() {
			p.read(b, 0)
		}
	})
}

// closedFive is a row with its ciphertexts.
type closedFive struct {
	plainFive
	Key string `db:"encrypted_kms_key"`
}

// slowPage is a page of rows whose keys are slow to unwrap.
type slowPage struct {
	bench
	key     slowKey
	wrapped []byte // some key
	rows    int64
	query   string
}

func newSlowPage(b *testing.B, concurrency int, cache *kmsencrypted.CacheConfig) slowPage {
	b.Helper()
	p := slowPage{rows: 100, query: "SELECT * FROM customers ORDER BY id", key: slowKey{limit.NewKey(), new(atomic.Int64)}}
	p.bench = newBenchWith(b, kmsencrypted.Config{
		Current: 1, Concurrency: concurrency, Cache: cache, Versions: map[int]kmsencrypted.Version{1: {Provider: p.key}},
	})
	must(b, kmssqlx.Insert(b.Context(), p.DB, p.Model, field.Pointers(newPage()[:p.rows])...))
	var err error
	p.wrapped, err = p.key.Encrypt(b.Context(), make([]byte, kmsencrypted.DataKeySize), kmsencrypted.BoundContext{})
	must(b, err)
	return p
}

// read reads and opens the page with so many calls.
func (p slowPage) read(b *testing.B, want int64) {
	before := p.key.calls.Load()
	var rows []five
	must(b, kmssqlx.Select(b.Context(), p.DB, p.Model, &rows, p.query))
	if calls := p.key.calls.Load() - before; calls != want || int64(len(rows)) != p.rows {
		b.Fatalf("%d calls for %d rows, want %d for %d", calls, len(rows), want, p.rows)
	}
}

// sideBySide calls f so many times, limit at a time.
func sideBySide(times int64, limit int, f func()) {
	var next atomic.Int64
	var callers sync.WaitGroup
	for range limit {
		callers.Go(func() {
			for next.Add(1) <= times {
				f()
			}
		})
	}
	callers.Wait()
}

func newPage() []five {
	rows := make([]five, page)
	for i := range rows {
		rows[i] = newFive(int64(i) + 1)
	}
	return rows
}

func newPlainPage() []plainFive {
	rows := make([]plainFive, page)
	for i := range rows {
		rows[i] = newPlainFive(int64(i) + 1)
	}
	return rows
}
