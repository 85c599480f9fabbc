package attach_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// A backup of the database is taken while a file waits for its Commit, or has all its parts.
// Where that backup is restored, the file comes back from its sidecar.
func TestRestoreCommittedSinceBackup(t *testing.T) {
	t.Parallel()
	content := random(1, 20_000)
	for name, begin := range map[string]func(w *world, c *customer) func() (*attach.Pending[customer], error){
		"uploaded": func(w *world, c *customer) func() (*attach.Pending[customer], error) {
			p := w.pending(t, c, "scans", string(content))
			return func() (*attach.Pending[customer], error) { return p, nil }
		},
		"in parts": func(w *world, c *customer) func() (*attach.Pending[customer], error) {
			u := w.begin(t, c, content)
			for n := range u.Parts() {
				must(t, w.manager.SealPart(t.Context(), c, u, n+1, partOf(u, n+1, content)))
			}
			return func() (*attach.Pending[customer], error) { return w.manager.FinishParts(t.Context(), c, u, nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t)
			settings := func(c *attach.Config) {
				v.into(t, nil)(c)
				c.PartSize, c.Lease = files.ChunkSize, time.Hour
			}
			w := newWorld(t, sqlite, settings)
			c := w.insert(t, 1)
			finish := begin(w, c)
			backup := filepath.Join(t.TempDir(), "backup.sqlite3")
			w.exec(t, "VACUUM INTO ?", backup)
			p, err := finish()
			must(t, err)
			a, err := w.commit(t, p)
			must(t, err)
			w.holds(t, a, content)

			next := newWorldAt(t, sqlite, sqliteDSN(backup), nil, w.memory, func(c *attach.Config) { v.into(t, w.memory)(c) })
			next.model, next.keys = w.model, w.keys
			next.manager, err = attach.New(t.Context(), next.db, field.SQLite, w.model, next.config)
			must(t, err)
			next.exec(t, "UPDATE kms_attachment_objects SET until = 0") // the lease ends
			got, err := next.manager.Restore(t.Context(), attach.RestoreOptions{})
			must(t, err)
			if got.Files != 1 || got.Unattached != 0 {
				t.Fatalf("Restore() = %+v, want one file", got)
			}
			_, err = next.manager.Sweep(t.Context())
			must(t, err)
			found, err := next.manager.List(t.Context(), c, "scans")
			must(t, err)
			next.holds(t, found[0], content)
			if left := next.count(t, "SELECT count(*) FROM kms_attachment_objects") + next.count(t, "SELECT count(*) FROM kms_attachment_parts"); left > 0 {
				t.Errorf("%d rows are left of the upload", left)
			}
		})
	}
}
