package sqlstore_test

import (
	"bytes"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/peakmemory"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/race"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

func TestPeakMemoryPostgres(t *testing.T) { testPeakMemory(t, postgres) }
func TestPeakMemoryMariaDB(t *testing.T)  { testPeakMemory(t, mariadb) }

// A table of five times as many records of 1 MB takes no more memory. It holds a few
// batches, each several times, so the smaller one has some already. Keeping the records
// would take 96 MiB more, and as much again before the collector runs.
func testPeakMemory(t *testing.T, d database) {
	const record, small, large = 1 << 20, 24 << 20, 120 << 20
	move := func(t *testing.T, size int64) {
		dir := t.TempDir()
		t.Setenv("TMPDIR", "") // where the account of a server gets in
		db := d.open(t)
		old := model[scan](t, box(t, dir, 1), "scans")
		create(t, d, db, old, "id bigint PRIMARY KEY")
		n := size / record
		for id := int64(1); id <= n; id++ {
			insert(t, db, old, []*scan{{ID: id, Note: field.New("note"), Page: field.New(bytes.Repeat([]byte{byte(id)}, record))}})
		}
		b := box(t, dir, 3)
		m := model[scan](t, b, "scans")
		r := rotator(t, d, db, b, m, rotation.Options{Kind: rotation.Rekey, Workers: 2, Shards: 2})
		if result, err := r.Run(t.Context()); err != nil || result.Written != n {
			t.Errorf("Run() = %+v, %v, want %d written", result, err, n)
		}
		if v, err := r.Verify(t.Context(), rotation.VerifyOptions{}); err != nil || v.Opened != n {
			t.Errorf("Verify() = %+v, %v, want %d opened", v, err, n)
		}
	}
	if race.Detector { // its own memory would be measured
		move(t, small)
		return
	}
	peakmemory.FlatFrom(t, small, large, 64, move)
}
