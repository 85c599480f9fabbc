package sqlstore_test

import (
	"cmp"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/race"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// keyOnly is a record without columns.
type keyOnly struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

// A table of ten times as many records takes no more memory: with 1,000,000 what is
// live on the heap after any batch may be a tenth more at most than with 100,000
// (1.14 and 1.12 MB were seen); with fewer, half more, because what the runtime
// keeps varies. Every record must have been written, once.
//
//	KMSENCRYPTED_HEAP_ROWS=1000000 go test ./sqlstore -run '^$' -bench HeapSQLite -benchtime 1x
func BenchmarkHeapSQLite(b *testing.B) {
	rows, err := strconv.ParseInt(cmp.Or(os.Getenv("KMSENCRYPTED_HEAP_ROWS"), "100000"), 10, 64)
	must(b, err)
	most := 1.1
	if rows < 1_000_000 {
		most = 1.5
	}
	for b.Loop() {
		small, large := heapOf(b, rows/10, 500), heapOf(b, rows, 500)
		b.ReportMetric(float64(small)/1e6, "MB/tenth")
		b.ReportMetric(float64(large)/1e6, "MB/all")
		b.ReportMetric(float64(large)/float64(small), "ratio")
		if float64(large) > most*float64(small) {
			b.Errorf("%d bytes are live with %d records, %d with a tenth of them", large, rows, small)
		}
	}
}

// The same of few records, in batches that are smaller than the small table. It would be
// several times as much if each record left some bytes behind.
func TestHeapSQLite(t *testing.T) {
	small, large := int64(2_000), int64(10_000)
	if race.Detector { // for want of patience
		large = 6_000
	}
	few, many := heapOf(t, small, 50), heapOf(t, large, 50)
	if float64(many) > 1.5*float64(few) {
		t.Errorf("%d bytes are live with %d records, %d with %d", many, large, few, small)
	}
}

// heapOf rewraps a table of n records in batches and returns the most that was live after
// one of about twenty of them.
func heapOf(b testing.TB, n, batch int64) (most uint64) {
	db := sqlite.open(b)
	defer db.Close()
	// One context for all records, so that the database can make copies of one.
	whole := func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"table": "keyed"}, nil
	}
	key := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby, Context: whole}
	boxAt := func(current int) *kmsencrypted.Box {
		box, err := kmsencrypted.Config{Current: current, AllowInsecure: true, Versions: map[int]kmsencrypted.Version{1: key, 2: key}}.Box()
		must(b, err)
		return box
	}
	fill(b, db, boxAt(1), n)
	to := boxAt(2)
	m, err := field.NewModel[keyOnly](to, field.Config{Table: "keyed", KeysOnly: true})
	must(b, err)
	batches, every := int64(0), max(1, n/batch/20)
	o := rotation.Options{Workers: 1, Shards: 8, BatchSize: int(batch), TargetTime: -1, Observe: func(e rotation.Event) {
		if e.Type != rotation.EventBatch {
			return
		}
		if batches++; batches%every == 0 {
			var stats runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&stats)
			most = max(most, stats.HeapAlloc)
		}
	}}
	result, err := rotator(b, sqlite, db, to, m, o).Run(b.Context())
	must(b, err)
	if result.Written != n || result.Failed != 0 || !result.Done || most == 0 {
		b.Fatalf("Run() of %d records = %+v", n, result)
	}
	var left int64
	must(b, db.Get(&left, "SELECT count(*) FROM keyed WHERE encrypted_kms_key NOT LIKE 'v2:%'"))
	if left != 0 {
		b.Fatalf("%d records are not at version 2", left)
	}
	return most
}

// fill makes a table of n records with one data key, which Ruby's format does not
// bind to a record beyond its context.
func fill(b testing.TB, db *sqlx.DB, from *kmsencrypted.Box, n int64) {
	m, err := field.NewModel[keyOnly](from, field.Config{Table: "keyed", KeysOnly: true})
	must(b, err)
	create(b, sqlite, db, m, "id integer PRIMARY KEY")
	row := &keyOnly{ID: 1}
	must(b, m.Adapter().AddKey(b.Context(), "encrypted_kms_key", row))
	_, err = db.Exec(`INSERT INTO keyed WITH RECURSIVE series(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM series WHERE id < ?)
		SELECT id, ? FROM series`, n, row.Key)
	must(b, err)
}
