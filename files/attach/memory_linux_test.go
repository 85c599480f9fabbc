package attach_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/peakmemory"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// A file of 1 GiB takes as much memory as one of 1 MiB, uploaded and read back.
func TestPeakMemory(t *testing.T) {
	for kind, upload := range map[string]func(t *testing.T, size int64) *attach.File{"native": uploadNative, "lockbox": uploadLockbox} {
		t.Run(kind, func(t *testing.T) {
			peakmemory.Flat(t, func(t *testing.T, size int64) {
				f := upload(t, size)
				defer f.Close()
				peakmemory.CameBack(t, f, size)
			})
		})
	}
}

func uploadNative(t *testing.T, size int64) *attach.File {
	dir := t.TempDir()
	provider, err := local.Create(filepath.Join(dir, "keys.txt"))
	must(t, err)
	w := newWorldAt(t, sqlite, sqlite.dsn(t), provider, openDir(t, filepath.Join(dir, "bucket")), nil)
	p, err := w.manager.Upload(t.Context(), w.insert(t, 1), "license", peakmemory.File(size), attach.Options{Size: size})
	must(t, err)
	a, err := w.commit(t, p)
	must(t, err)
	f, err := w.manager.Open(t.Context(), a)
	must(t, err)
	return f
}

func uploadLockbox(t *testing.T, size int64) *attach.File {
	w := newRailsWorld(t)
	w.exec(t, "DELETE FROM active_storage_attachments WHERE record_id = 1")
	d := w.read(t, 1)
	p, err := w.rails.Upload(t.Context(), d, "photo", peakmemory.File(size), attach.Options{Size: size})
	must(t, err)
	var b *attach.Blob
	must(t, w.transaction(t, func(tx *sql.Tx) error {
		b, err = p.Commit(t.Context(), tx)
		return err
	}))
	f, err := w.rails.Open(t.Context(), d, b)
	must(t, err)
	return f
}
