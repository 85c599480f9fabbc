package attach_test

import (
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// Two managers that call different folders by one name neither write to nor sweep
// what is the other's.
func TestStoresOfOneNamePostgresMariaDBSQLite(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]database{"SQLite": sqlite, "Postgres": postgres, "MariaDB": mariadb} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			w := newWorld(t, d, func(c *attach.Config) {
				c.Buckets, c.Grace = map[string]attach.Bucket{"disk": openDir(t, path)}, time.Millisecond
			})
			c := w.insert(t, 1)
			a := w.attach(t, c, "license", []byte("content"))
			must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, a) }))
			time.Sleep(5 * time.Millisecond)

			config := w.config
			config.Buckets = map[string]attach.Bucket{"disk": openDir(t, t.TempDir())}
			other, err := attach.New(t.Context(), w.db, w.d.dialect, w.model, config)
			must(t, err)
			if swept, err := other.Sweep(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) || swept.Deleted != 0 {
				t.Errorf("Sweep by the manager of another folder = %+v, %v, want ErrConfig", swept, err)
			}
			if p, err := other.Upload(t.Context(), c, "scans", strings.NewReader("x"), attach.Options{}); p != nil || !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("Upload to another folder = %v, want ErrConfig", err)
			}
			config.Buckets = map[string]attach.Bucket{"disk": openDir(t, path)} // the same, opened again
			same, err := attach.New(t.Context(), w.db, w.d.dialect, w.model, config)
			must(t, err)
			if swept, err := same.Sweep(t.Context()); err != nil || swept.Deleted != 1 {
				t.Errorf("Sweep of the same folder = %+v, %v, want one object", swept, err)
			}
			if n := w.count(t, "SELECT count(*) FROM kms_attachment_objects"); n != 0 {
				t.Errorf("%d objects are listed, want none", n)
			}
		})
	}
}

// All processes that open a new folder at once agree on its identity.
func TestIdentityOfAFolder(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	var mu sync.Mutex
	seen := make(map[string]int)
	var all sync.WaitGroup
	for range 20 {
		d := openDir(t, path)
		all.Go(func() {
			is, err := d.Identity(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[is]++
		})
	}
	all.Wait()
	if len(seen) != 1 || seen[""] > 0 {
		t.Errorf("identities %v, want one", seen)
	}
}
