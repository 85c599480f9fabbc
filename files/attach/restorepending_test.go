package attach_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// A backup of the database is taken while a file waits for its Commit. Where that backup
// is restored, the file comes back from its sidecar.
func TestRestoreCommittedSinceBackup(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	settings := func(c *attach.Config) { v.into(t, nil)(c); c.Lease = 50 * time.Millisecond }
	w := newWorld(t, sqlite, settings)
	c := w.insert(t, 1)
	p := w.pending(t, c, "license", "the licence")
	backup := filepath.Join(t.TempDir(), "backup.sqlite3")
	w.exec(t, "VACUUM INTO ?", backup)
	a, err := w.commit(t, p)
	must(t, err)
	w.holds(t, a, []byte("the licence"))

	next := newWorldAt(t, sqlite, sqliteDSN(backup), nil, w.memory, func(c *attach.Config) { v.into(t, w.memory)(c); c.Lease = 50 * time.Millisecond })
	next.model, next.keys = w.model, w.keys
	next.manager, err = attach.New(t.Context(), next.db, field.SQLite, w.model, next.config)
	must(t, err)
	time.Sleep(100 * time.Millisecond) // the lease ends
	got, err := next.manager.Restore(t.Context(), attach.RestoreOptions{})
	must(t, err)
	if got.Files != 1 || got.Unattached != 0 {
		t.Fatalf("Restore() = %+v, want one file", got)
	}
	_, err = next.manager.Sweep(t.Context())
	must(t, err)
	found, err := next.manager.Get(t.Context(), c, "license")
	must(t, err)
	next.holds(t, found, []byte("the licence"))
}
