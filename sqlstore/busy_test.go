package sqlstore_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Another program locks a SQLite database for longer than a run tries. That is an outage
// of the database: the run waits, or ends with its error, and no record fails.
func TestBusySQLite(t *testing.T) {
	t.Parallel()
	const n = 30
	dir := t.TempDir()
	db := sqlite.connect(t, "file:"+filepath.Join(dir, "r.sqlite3")+"?_pragma=busy_timeout(5)&_pragma=journal_mode(wal)")
	old := model[person](t, box(t, dir, 1), "people")
	create(t, sqlite, db, old, "id integer PRIMARY KEY")
	insert(t, db, old, numbered(n))
	b := box(t, dir, 2)
	m := model[person](t, b, "people")
	lock := func() (release func()) {
		conn, err := db.Connx(t.Context())
		must(t, err)
		_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
		must(t, err)
		return func() {
			_, err := conn.ExecContext(context.Background(), "ROLLBACK")
			must(t, err)
			must(t, conn.Close())
		}
	}
	waits := make(chan struct{}, 100)
	o := rotation.Options{Workers: 1, Shards: 1, BatchSize: 10, TargetTime: -1, MaxWait: 1500 * time.Millisecond, MaxFailures: 1}
	var release func()
	batches := 0
	o.Observe = func(e rotation.Event) {
		switch e.Type {
		case rotation.EventBatch:
			if batches++; batches == 1 {
				release = lock()
			}
		case rotation.EventWaiting:
			select {
			case waits <- struct{}{}:
			default:
			}
		}
	}
	r := rotator(t, sqlite, db, b, m, o)
	result, err := r.Run(t.Context())
	release()
	if !errors.Is(err, rotation.ErrDatabaseAway) || result.Failed != 0 || result.Written >= n {
		t.Errorf("Run() while the database is locked = %+v, %v, want ErrDatabaseAway and no failure", result, err)
	}

	batches = 0 // and once more, for a time that the run outlasts
	o.MaxWait = time.Minute
	for len(waits) > 0 {
		<-waits
	}
	r = rotator(t, sqlite, db, b, m, o)
	go func() {
		<-waits
		release()
	}()
	if result, err = r.Run(t.Context()); err != nil || !result.Done || result.Failed != 0 {
		t.Errorf("Run() after that = %+v, %v", result, err)
	}
	if counts := versions(t, db, "people"); counts[2] != n {
		t.Errorf("there are %v records by version, want %d at 2", counts, n)
	}
}

// A key store that was restored from a backup concerns every record: the run ends and lists
// none as a failure.
func TestRestoredBranchesEndRun(t *testing.T) {
	t.Parallel()
	const n = 30
	current := kmstest.NewService(kmstest.Memory(), kmstest.Fail(branch.ErrRestored, 1))
	versions := map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}, 2: {Provider: current.Provider()}}
	at := func(current int) *field.Model[person] {
		b, err := kmsencrypted.Config{Current: current, Versions: versions}.Box()
		must(t, err)
		return model[person](t, b, "people")
	}
	db := sqlite.open(t)
	create(t, sqlite, db, at(1), "id integer PRIMARY KEY")
	insert(t, db, at(1), numbered(n))
	m := at(2)
	r := rotator(t, sqlite, db, m.Adapter().Box(), m, rotation.Options{})
	result, err := r.Run(t.Context())
	if !errors.Is(err, branch.ErrRestored) || result.Failed != 0 || result.Written != 0 {
		t.Errorf("Run() = %+v, %v, want ErrRestored and no failure", result, err)
	}
}
