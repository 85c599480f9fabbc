package sqlstore_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/race"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// scan is a record of any size.
type scan struct {
	ID   int64            `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key"`
	Note field.Of[string] `db:"note_ciphertext"`
	Page field.Of[[]byte] `db:"page_ciphertext" kms:"binary"`
}

func TestLargePostgres(t *testing.T) { testLarge(t, postgres, false) }
func TestLargeMariaDB(t *testing.T)  { testLarge(t, mariadb, true) }
func TestLargeSQLite(t *testing.T)   { testLarge(t, sqlite, false) }

// Small and large records are in one table, in any order: each batch has few bytes, and
// all are moved. One is as large as MariaDB takes, but not together with its old values
// in a statement. The last one was written by two statements, and is too large for one:
// it alone is refused there.
func testLarge(t *testing.T, d database, refused bool) {
	t.Parallel()
	dir, db := t.TempDir(), d.open(t)
	old := model[scan](t, box(t, dir, 1), "scans")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	n, least := int64(400), 15
	if race.Detector { // for want of patience
		n, least = 120, 5
	}
	size := func(id int64) int {
		switch {
		case id >= n-1:
			return 7 << 20
		case id > n*3/4 && id%4 == 0: // where batches of small ones were read before
			return 1 << 20
		case id%50 == 0:
			return 3 << 20
		}
		return int(id % 40)
	}
	page := func(id int64) int {
		if id == n {
			return size(id)
		}
		return size(id) / 8
	}
	for id := int64(1); id <= n; id++ {
		r := scan{ID: id, Note: field.New(strings.Repeat("n", size(id))), Page: field.New(bytes.Repeat([]byte{byte(id)}, page(id)))}
		must(t, old.SealNew(t.Context(), &r))
		if id < n {
			must(t, insertSealed(t.Context(), db, old, []*scan{&r}))
			continue
		}
		db.MustExec(db.Rebind("INSERT INTO scans (id, encrypted_kms_key, note_ciphertext) VALUES (?, ?, ?)"), r.ID, r.Key, r.Note)
		db.MustExec(db.Rebind("UPDATE scans SET page_ciphertext = ? WHERE id = ?"), r.Page, id)
	}
	b := box(t, dir, 3)
	m := model[scan](t, b, "scans")
	var mu sync.Mutex
	most := int64(0)
	batches := 0
	r := rotator(t, d, db, b, m, rotation.Options{Kind: rotation.Rekey, Workers: 2, Shards: 2, BatchSize: 500, TargetTime: -1, Observe: func(e rotation.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Type == rotation.EventBatch {
			batches++
			most = max(most, e.Outcome.Written+e.Outcome.Failed)
		}
	}})
	result, err := r.Run(t.Context())
	must(t, err)
	want := rotation.Outcome{Written: n}
	if refused {
		want = rotation.Outcome{Written: n - 1, Failed: 1}
		failures, err := r.Failures(t.Context(), 0)
		must(t, err)
		if len(failures) != 1 || failures[0].Record != fmt.Sprint("id=", n) || failures[0].Class != "database" || !strings.Contains(failures[0].Err.Error(), "max_allowed_packet") {
			t.Errorf("Failures() = %v, want the largest", failures)
		}
	}
	if result.Outcome != want || !result.Done || batches < least || most > 200 {
		t.Errorf("Run() = %+v with %d batches of at most %d records, want %+v in small batches", result, batches, most, want)
	}
	rows := 0
	for id := int64(1); id <= n; id++ { // one by one: they are large
		var row scan
		must(t, db.Get(&row, db.Rebind("SELECT * FROM scans WHERE id = ?"), id))
		must(t, m.Open(t.Context(), &row))
		if len(row.Note.Must()) != size(id) || len(row.Page.Must()) != page(id) {
			t.Errorf("record %d has %d and %d bytes", id, len(row.Note.Must()), len(row.Page.Must()))
		}
		if version, _ := row.Key.Version(); version == 3 {
			rows++
		}
	}
	if rows != int(result.Written) {
		t.Errorf("%d records are at version 3, and %d were written", rows, result.Written)
	}
}

// The server takes smaller statements than when the store was made: the batch goes on
// in parts.
func TestPacketShrinksMariaDB(t *testing.T) {
	// Not parallel: the variable is the server's.
	dir, db := t.TempDir(), mariadb.open(t)
	db.SetConnMaxLifetime(time.Millisecond)
	old := model[scan](t, box(t, dir, 1), "scans")
	create(t, mariadb, db, old, "id bigint PRIMARY KEY")
	const n = 60
	for id := int64(1); id <= n; id++ {
		insert(t, db, old, []*scan{{ID: id, Note: field.New(strings.Repeat("n", 60<<10)), Page: field.New([]byte("page"))}})
	}
	b := box(t, dir, 3)
	m := model[scan](t, b, "scans")
	r := rotator(t, mariadb, db, b, m, rotation.Options{Kind: rotation.Rekey, Workers: 1, Shards: 1})
	var before int64
	must(t, db.Get(&before, "SELECT @@global.max_allowed_packet"))
	defer func() { db.MustExec(fmt.Sprint("SET GLOBAL max_allowed_packet = ", before)) }()
	db.MustExec("SET GLOBAL max_allowed_packet = 1048576")
	result, err := r.Run(t.Context())
	must(t, err)
	if result.Outcome != (rotation.Outcome{Written: n}) || !result.Done {
		t.Errorf("Run() = %+v, want %d written", result, n)
	}
	for _, row := range load(t, db, m) {
		if len(row.Note.Must()) != 60<<10 {
			t.Errorf("record %d has %d bytes", row.ID, len(row.Note.Must()))
		}
	}
}
