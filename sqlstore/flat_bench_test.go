package sqlstore_test

import (
	"cmp"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// A record costs as much in a large table as in one of a tenth of it: buffers of the tables
// and indexes that the server touched, and transactions. With 1,000,000 records a twentieth
// more is allowed; with fewer, what does not grow with the table shows.
//
//	KMSENCRYPTED_FLAT_ROWS=10000000 go test ./sqlstore -run '^$' -bench FlatPostgres -benchtime 1x -timeout 0
func BenchmarkFlatPostgres(b *testing.B) {
	rows, err := strconv.ParseInt(cmp.Or(os.Getenv("KMSENCRYPTED_FLAT_ROWS"), "100000"), 10, 64)
	must(b, err)
	most := 1.05
	if rows < 1_000_000 {
		most = 1.25
	}
	for b.Loop() {
		small, large := flatOf(b, rows/10), flatOf(b, rows)
		b.ReportMetric(small.buffers, "buffers/row/tenth")
		b.ReportMetric(large.buffers, "buffers/row/all")
		b.ReportMetric(small.transactions*1000, "transactions/1000rows/tenth")
		b.ReportMetric(large.transactions*1000, "transactions/1000rows/all")
		if large.buffers > most*small.buffers || large.transactions > most*small.transactions {
			b.Errorf("a record costs %+v with %d of them, %+v with a tenth", large, rows, small)
		}
	}
}

// flat is what a record costs the server.
type flat struct{ buffers, transactions float64 }

func flatOf(b *testing.B, n int64) flat {
	dsn := postgres.dsn(b)
	db := postgres.connect(b, dsn)
	whole := func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"table": "keyed"}, nil
	}
	key := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby, Context: whole}
	boxAt := func(current int) *kmsencrypted.Box {
		box, err := kmsencrypted.Config{Current: current, AllowInsecure: true, Versions: map[int]kmsencrypted.Version{1: key, 2: key}}.Box()
		must(b, err)
		return box
	}
	m, err := field.NewModel[keyOnly](boxAt(1), field.Config{Table: "keyed", KeysOnly: true})
	must(b, err)
	create(b, postgres, db, m, "id bigint PRIMARY KEY")
	row := &keyOnly{ID: 1}
	must(b, m.Adapter().AddKey(b.Context(), "encrypted_kms_key", row))
	_, err = db.Exec("INSERT INTO keyed SELECT i, $1 FROM generate_series(1, $2::bigint) AS i", row.Key, n)
	must(b, err)
	db.MustExec("VACUUM ANALYZE keyed")
	to := boxAt(2)
	if m, err = field.NewModel[keyOnly](to, field.Config{Table: "keyed", KeysOnly: true}); err != nil {
		b.Fatal(err)
	}
	r := rotator(b, postgres, db, to, m, rotation.Options{Workers: 2, Shards: 16, TargetTime: -1})
	seen := func() (f flat) {
		db.MustExec("SELECT pg_stat_force_next_flush()")
		must(b, db.QueryRow(`SELECT (SELECT sum(coalesce(heap_blks_read, 0) + coalesce(heap_blks_hit, 0) + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0)) FROM pg_statio_user_tables),
			(SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())`).Scan(&f.buffers, &f.transactions))
		return f
	}
	before := seen()
	result, err := r.Run(b.Context())
	must(b, err)
	if result.Written != n || !result.Done {
		b.Fatalf("Run() of %d records = %+v", n, result)
	}
	must(b, db.Close()) // sessions tell their statistics when they end, at the latest
	time.Sleep(time.Second)
	db = postgres.connect(b, dsn)
	after := seen()
	return flat{(after.buffers - before.buffers) / float64(n), (after.transactions - before.transactions) / float64(n)}
}
