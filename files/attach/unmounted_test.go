package attach_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// The disk of a folder is not mounted, or the folder was moved away while the program runs.
// That is not a file that does not exist, nothing is written there and nothing is forgotten.
// When the disk is back, all is as it was.
func TestStoreIsNotMounted(t *testing.T) {
	t.Parallel()
	for name, isOpen := range map[string]bool{"empty mount point": false, "moved away": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "files")
			w := newWorld(t, sqlite, func(c *attach.Config) {
				c.Buckets = map[string]attach.Bucket{"disk": openDir(t, path)}
				c.Recovery = &attach.Recovery{Box: kmstest.Box(t), Store: "test"}
			})
			c := w.insert(t, 1)
			a := w.attach(t, c, "license", []byte("content"))
			p, err := w.manager.Upload(t.Context(), c, "scans", strings.NewReader("x"), attach.Options{})
			must(t, err)
			again := func() {
				w.config.Buckets = map[string]attach.Bucket{"disk": openDir(t, path)}
				w.use(t, 1)
			}

			if isOpen {
				must(t, os.RemoveAll(filepath.Join(path, a.Object[:2]))) // and what the program has open is gone
				must(t, os.Rename(path, path+".away"))
				must(t, os.Remove(filepath.Join(path+".away", ".kms-store")))
			} else {
				must(t, os.Rename(path, path+".away"))
				again()
				discard, err := w.manager.Upload(t.Context(), c, "scans", strings.NewReader("x"), attach.Options{})
				if discard != nil || !errors.Is(err, kmsencrypted.ErrConfig) {
					t.Errorf("Upload = %v, want ErrConfig", err)
				}
			}
			if _, err := w.manager.Open(t.Context(), a); !errors.Is(err, attach.ErrStore) || errors.Is(err, fs.ErrNotExist) || !kmsencrypted.Retryable(err) {
				t.Errorf("Open = %v, want ErrStore", err)
			}
			if _, err := w.manager.Restore(t.Context(), attach.RestoreOptions{}); !errors.Is(err, attach.ErrStore) {
				t.Errorf("Restore = %v, want ErrStore", err)
			}
			if err := w.manager.WrapRecovery(t.Context(), nil); !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("WrapRecovery = %v, want ErrConfig", err)
			}
			if _, err := w.manager.Sweep(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("Sweep = %v, want ErrConfig", err)
			}
			if isOpen {
				return
			}
			must(t, p.Discard(t.Context())) // by the manager that has it: the folder is still open there
			must(t, os.RemoveAll(path))
			must(t, os.Rename(path+".away", path))
			again()
			w.holds(t, a, []byte("content"))
			must(t, os.RemoveAll(filepath.Join(path, a.Object[:2])))
			if _, err := w.manager.Open(t.Context(), a); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, attach.ErrStore) {
				t.Errorf("Open of an object that is gone = %v, want fs.ErrNotExist", err)
			}
		})
	}
}
