package sqlstore_test

import (
	"context"
	"crypto/cipher"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// What the Rotator costs beside the loop of byhand_test.go, in turns: the quartiles of
// the quotients of their times, with one worker and with one for each processor. Both
// rotate 40,000 rows with two columns, in a table of their own, 1,000 in a batch, with
// keys in memory.
//
//	go test ./sqlstore -run '^$' -bench 'Re(wrap|key)(Postgres|MariaDB)' -benchtime 15x
func BenchmarkRewrapPostgres(b *testing.B) { benchmark(b, postgres, rotation.Rewrap) }
func BenchmarkRekeyPostgres(b *testing.B)  { benchmark(b, postgres, rotation.Rekey) }
func BenchmarkRewrapMariaDB(b *testing.B)  { benchmark(b, mariadb, rotation.Rewrap) }
func BenchmarkRekeyMariaDB(b *testing.B)   { benchmark(b, mariadb, rotation.Rekey) }

func benchmark(b *testing.B, d database, kind rotation.Kind) {
	for _, workers := range []int{1, runtime.GOMAXPROCS(0)} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) { benchmarkWorkers(b, d, kind, workers) })
	}
}

func benchmarkWorkers(b *testing.B, d database, kind rotation.Kind, workers int) {
	const n = 40_000
	dsn := d.dsn(b)
	db := d.connect(b, dsn)
	first, second := newMemoryKey("first"), newMemoryKey("second")
	boxAt := func(current int) *kmsencrypted.Box {
		box, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: {Provider: first}, 2: {Provider: second}}}.Box()
		must(b, err)
		return box
	}
	m := model[person](b, boxAt(1), "people")
	create(b, d, db, m, "id bigint PRIMARY KEY")
	create(b, d, db, model[person](b, boxAt(1), "byhand"), "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(benchEmail)}
		people[i].Phone.Set(new(benchPhone))
	}
	must(b, m.SealNew(b.Context(), people...))
	must(b, insertSealed(b.Context(), db, m, people))
	hand := &byHand{keys: map[int]cipher.AEAD{1: first.aead, 2: second.aead}, rekeys: kind == rotation.Rekey, rows: n, workers: workers}
	hand.open = handConnections(b, d, dsn, db, hand)
	for some := range slices.Chunk(hand.first(), 500) {
		values := make([]string, len(some))
		for i, r := range some {
			values[i] = fmt.Sprintf("(%d, '%s', '%s', '%s')", r.id, r.key, r.email, r.phone)
		}
		db.MustExec("INSERT INTO byhand (id, encrypted_kms_key, email_ciphertext, phone_ciphertext) VALUES " + strings.Join(values, ","))
	}
	rotator(b, d, db, boxAt(1), m, rotation.Options{}) // makes the tables
	clean := func() {
		db.MustExec("TRUNCATE TABLE kms_rotation_journal")
		if d.dialect == field.Postgres {
			db.MustExec("VACUUM ANALYZE people")
			db.MustExec("VACUUM ANALYZE byhand")
			db.MustExec("VACUUM kms_rotation_shards")
		}
	}
	timed := func(rotate func() int64) (c cost) {
		clean()
		runtime.GC()
		began, busy := time.Now(), against.TreeTime()
		if written := rotate(); written != n {
			b.Fatalf("%d rows rotated, want %d", written, n)
		}
		return cost{time.Since(began).Seconds(), (against.TreeTime() - busy).Seconds()}
	}
	target := 1
	limit := func() cost {
		run, err := startByHand(func(query string, args ...any) error { _, err := db.Exec(query, args...); return err }, workers)
		must(b, err)
		return timed(func() int64 { return hand.rotate(b, run, target) })
	}
	ours := func() cost {
		to := boxAt(target)
		r := rotator(b, d, db, to, model[person](b, to, "people"), rotation.Options{Kind: kind, Workers: workers, Shards: 2 * workers, BatchSize: handBatchSize, TargetTime: -1})
		return timed(func() int64 {
			result, err := r.Run(b.Context())
			must(b, err)
			return result.Written
		})
	}
	var limits, own []cost
	for b.Loop() {
		target = 3 - target
		if len(own)%2 == 0 {
			limits, own = append(limits, limit()), append(own, ours())
		} else {
			own, limits = append(own, ours()), append(limits, limit())
		}
	}
	quartile := func(q int, of func(l, o cost) float64) float64 {
		list := make([]float64, len(own))
		for i := range own {
			list[i] = of(limits[i], own[i])
		}
		slices.Sort(list)
		return list[len(list)*q/4]
	}
	for q, name := range []string{1: "-q1", 2: "", 3: "-q3"} {
		if q > 0 {
			b.ReportMetric(quartile(q, func(l, o cost) float64 { return l.wall / o.wall }), "of-limit"+name)
			b.ReportMetric(quartile(q, func(l, o cost) float64 { return l.cpu / o.cpu }), "of-limit-cpu"+name)
		}
	}
	b.ReportMetric(quartile(2, func(l, _ cost) float64 { return n / l.wall }), "limit-rows/s")
	b.ReportMetric(quartile(2, func(_, o cost) float64 { return n / o.wall }), "rows/s")
	b.ReportMetric(quartile(2, func(l, _ cost) float64 { return l.cpu / n * 1e6 }), "limit-cpu-us/row")
	b.ReportMetric(quartile(2, func(_, o cost) float64 { return o.cpu / n * 1e6 }), "cpu-us/row")
}

// cost is what it took to rotate all rows, in seconds.
type cost struct{ wall, cpu float64 } // cpu: also of the server

func handConnections(b *testing.B, d database, dsn string, db *sqlx.DB, h *byHand) func() handDatabase {
	var kept []handDatabase
	for range h.workers {
		if d.dialect == field.Postgres {
			conn, err := pgx.Connect(b.Context(), dsn)
			must(b, err)
			b.Cleanup(func() { conn.Close(context.Background()) })
			kept = append(kept, handPostgres{conn, h.rekeys})
		} else {
			conn, err := db.Conn(b.Context())
			must(b, err)
			b.Cleanup(func() { conn.Close() })
			kept = append(kept, handMariaDB{conn, h.rekeys})
		}
	}
	next := 0
	return func() handDatabase {
		next++
		return kept[next%h.workers]
	}
}

// distant is a key service that takes 5 ms to answer.
type distant struct{ kmsencrypted.Provider }

func (d distant) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	time.Sleep(5 * time.Millisecond)
	return d.Provider.Encrypt(ctx, plaintext, ec)
}

func (d distant) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	time.Sleep(5 * time.Millisecond)
	return d.Provider.Decrypt(ctx, ciphertext, ec)
}

// A key service that takes 5 ms, asked one by one and with 256 calls in flight by
// one worker. The promise is 100 times.
func BenchmarkDistantPostgres(b *testing.B) {
	for _, c := range []struct {
		name        string
		rows        int
		concurrency int
	}{{"one by one", 100, 1}, {"256 in flight", 10_000, 256}} {
		b.Run(c.name, func(b *testing.B) {
			dir, db := b.TempDir(), postgres.open(b)
			boxAt := func(current int) *kmsencrypted.Box {
				first, second := keys(b, dir)
				box, err := kmsencrypted.Config{Current: current, Concurrency: c.concurrency, Versions: map[int]kmsencrypted.Version{
					1: {Provider: distant{first}}, 2: {Provider: distant{second}},
				}}.Box()
				must(b, err)
				return box
			}
			near := model[person](b, box(b, dir, 1), "people")
			create(b, postgres, db, near, "id bigint PRIMARY KEY")
			people := make([]*person, c.rows)
			for i := range people {
				people[i] = &person{ID: int64(i + 1), Email: field.New("somebody@example.org")}
			}
			must(b, near.SealNew(b.Context(), people...))
			must(b, insertSealed(b.Context(), db, near, people))
			current := 1
			for b.Loop() {
				current = 3 - current
				to := boxAt(current)
				result, err := rotator(b, postgres, db, to, model[person](b, to, "people"), rotation.Options{Workers: 1, Shards: 1, BatchSize: 2000}).Run(b.Context())
				must(b, err)
				if result.Written != int64(c.rows) {
					b.Fatalf("%d rows rewrapped, want %d", result.Written, c.rows)
				}
			}
			b.ReportMetric(float64(c.rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
