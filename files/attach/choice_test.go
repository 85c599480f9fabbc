package attach_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// A new file goes to the bucket of its upload, of its attachment or of all, in this
// order, and stays there.
func TestChoiceOfBucket(t *testing.T) {
	t.Parallel()
	buckets := map[string]attach.Bucket{"main": new(attach.Memory), "cold": new(attach.Memory), "eu": new(attach.Memory)}
	w := newWorld(t, sqlite, func(c *attach.Config) {
		c.Buckets, c.Bucket, c.BucketOf = buckets, "main", map[string]string{"scans": "cold"}
	})
	c := w.insert(t, 1)
	put := func(name, bucket string) *attach.Attachment {
		p, err := w.manager.Upload(t.Context(), c, name, strings.NewReader(name), attach.Options{Bucket: bucket})
		must(t, err)
		a, err := w.commit(t, p)
		must(t, err)
		return a
	}
	license, scan, chosen := put("license", ""), put("scans", ""), put("scans", "eu")
	for want, a := range map[string]*attach.Attachment{"main": license, "cold": scan, "eu": chosen} {
		if a.Bucket != want || len(buckets[want].(*attach.Memory).Names()) != 1 {
			t.Errorf("%s is in bucket %s with %v, want %s", a.Name, a.Bucket, buckets[want].(*attach.Memory).Names(), want)
		}
	}
	moved, err := w.manager.Reencrypt(t.Context(), chosen, nil)
	if err != nil || moved.Bucket != "cold" {
		t.Errorf("Reencrypt = in %s, %v, want the bucket of the attachment", moved.Bucket, err)
	}
	w.holds(t, chosen, []byte("scans"))
	if p, err := w.manager.Upload(t.Context(), c, "scans", strings.NewReader(""), attach.Options{Bucket: "mars"}); p != nil || !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Upload to an unknown bucket = %v, %v, want ErrConfig", p, err)
	}
	for _, wrong := range []map[string]string{{"scans": "mars"}, {"passport": "main"}} {
		config := w.config
		config.BucketOf = wrong
		if _, err := attach.New(t.Context(), w.db, w.d.dialect, w.model, config); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("New with BucketOf %v = %v, want ErrConfig", wrong, err)
		}
	}
}

// Files of a record that was deleted without them are found, and are not there for
// whoever opens them.
func TestOrphansPostgresMariaDBSQLite(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]database{"SQLite": sqlite, "Postgres": postgres, "MariaDB": mariadb} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, d, func(c *attach.Config) { c.Grace = time.Millisecond })
			kept := w.attach(t, w.insert(t, 1), "license", []byte("of Ada"))
			bob := w.insert(t, 2)
			gone := []*attach.Attachment{w.attach(t, bob, "license", []byte("of Bob")), w.attach(t, bob, "scans", []byte("one")), w.attach(t, bob, "scans", []byte("two"))}
			w.derive(t, bob, gone[0])
			if found, err := w.manager.Orphans(t.Context(), "", 10); err != nil || len(found) != 0 {
				t.Errorf("Orphans while the records exist = %d, %v", len(found), err)
			}
			w.exec(t, "DELETE FROM customers WHERE id = 2")
			if _, err := w.content(t, gone[0]); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open of a file whose record is gone = %v, want fs.ErrNotExist", err)
			}
			seen := 0
			for after := ""; ; seen++ {
				found, err := w.manager.Orphans(t.Context(), after, 1)
				must(t, err)
				if len(found) == 0 {
					break
				}
				after = found[0].ID
				must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, found[0]) }))
			}
			if seen != len(gone) {
				t.Errorf("Orphans found %d files, want %d", seen, len(gone))
			}
			w.sweep(t)
			w.clean(t, 1)
			w.holds(t, kept, []byte("of Ada"))
		})
	}
}

// full is a bucket without room.
type full struct {
	attach.Bucket
	puts int
}

func (f *full) Put(_ context.Context, name string, write func(io.Writer) error) error {
	f.puts++
	if err := write(io.Discard); err != nil {
		return err
	}
	return fmt.Errorf("object %s: %w", name, &fs.PathError{Op: "write", Path: name, Err: syscall.ENOSPC})
}

// A store that is full is not asked again, and there is no Pending beside an error.
func TestFullStore(t *testing.T) {
	t.Parallel()
	bucket := &full{Bucket: new(attach.Memory)}
	w := newWorld(t, sqlite, func(c *attach.Config) { c.Buckets = map[string]attach.Bucket{"full": bucket} })
	p, err := w.manager.Upload(t.Context(), w.insert(t, 1), "scans", strings.NewReader("content"), attach.Options{})
	if p != nil || !errors.Is(err, syscall.ENOSPC) || bucket.puts != 1 {
		t.Errorf("Upload to a full store = %v, %v after %d attempts, want ENOSPC after one", p, err, bucket.puts)
	}
}

// A folder has no folders left over, also while others write next to them.
func TestDirRemovesFolders(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDir(t, path)
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for n := range 100 {
				name := fmt.Sprintf("aabb%d%d", i, n) // all in one folder
				if err := d.Put(t.Context(), name, func(w io.Writer) error { _, err := io.WriteString(w, name); return err }); err != nil {
					t.Errorf("Put while others delete: %v", err)
				}
				if err := d.Delete(t.Context(), name); err != nil {
					t.Errorf("Delete: %v", err)
				}
			}
		})
	}
	writers.Wait()
	left, err := os.ReadDir(path)
	if err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	must(t, d.Put(t.Context(), "aabbkept", func(w io.Writer) error { return nil }))
	must(t, d.Put(t.Context(), "aabbgone", func(w io.Writer) error { return nil }))
	must(t, d.Delete(t.Context(), "aabbgone"))
	if _, err := os.Stat(filepath.Join(path, "aa", "bb", "aabbkept")); err != nil {
		t.Errorf("the object next to a deleted one: %v", err)
	}
}
