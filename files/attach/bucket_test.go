package attach_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/attach/buckettest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

func openDir(t testing.TB, path string) *attach.Dir {
	t.Helper()
	d, err := attach.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) { buckettest.Run(t, new(attach.Memory)) })
	t.Run("dir", func(t *testing.T) {
		path := t.TempDir()
		buckettest.Run(t, openDir(t, path))
		for _, left := range filesIn(t, path) {
			t.Errorf("%s is left behind", left)
		}
	})
}

// mark is the file with the identity of a folder.
const mark = ".kms-store"

// filesIn lists the files of a folder but its mark.
func filesIn(t testing.TB, path string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != mark {
			names = append(names, d.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func write(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

// No name leads out of the folder, and none is another object's part.
func TestDirNames(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	outside := filepath.Join(path, "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, filepath.Join(path, "bucket"))
	if err := os.MkdirAll(filepath.Join(path, "bucket", "li"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(path, "bucket", "li", "nk")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "abc", "../outside", "..abc/../../outside", "....", "../../..", "/etc/passwd", "abcd.part", "abcd/", "ab\x00cd/../x", "link/../outside"} {
		if err := d.Put(t.Context(), name, write("x")); err == nil {
			t.Errorf("Put(%q) = nil", name)
		}
		if _, err := d.Open(t.Context(), name); err == nil {
			t.Errorf("Open(%q) = nil", name)
		}
		d.Delete(t.Context(), name)
	}
	if err := d.Put(t.Context(), "linkabc", write("x")); err == nil {
		t.Error("Put through a symbolic link out of the folder = nil")
	}
	if got, err := os.ReadFile(outside); err != nil || string(got) != "secret" {
		t.Errorf("the file outside = %q, %v", got, err)
	}
}

// What a process that died left of an object goes with Delete, and never counts
// as the object.
func TestDirPart(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDir(t, path)
	if err := os.MkdirAll(filepath.Join(path, "ab", "cd"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "ab", "cd", "abcdef.part"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(t.Context(), "abcdef"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of half an object = %v, want fs.ErrNotExist", err)
	}
	if err := d.Delete(t.Context(), "abcdef"); err != nil {
		t.Fatal(err)
	}
	if left := filesIn(t, path); len(left) > 0 {
		t.Errorf("%v left behind", left)
	}
	if err := d.Put(t.Context(), "abcdef", write("whole")); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), "abcdef", write("other")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Put under a name that is taken = %v, want fs.ErrExist", err)
	}
	info, err := os.Stat(filepath.Join(path, "ab", "cd", "abcdef"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the object = %v, %v", info.Mode(), err)
	}
}

// A source that panics or ends its goroutine attaches nothing and leaves nothing.
func TestInterruptedUploads(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	dir, err := attach.OpenDir(folder)
	must(t, err)
	defer dir.Close()
	for name, bucket := range map[string]attach.Bucket{"Dir": dir, "Memory": new(attach.Memory)} {
		provider, err := local.Create(filepath.Join(t.TempDir(), "keys.txt"))
		must(t, err)
		w := newWorldAt(t, sqlite, sqlite.dsn(t), provider, bucket, func(c *attach.Config) { c.Workers = 2 })
		c := w.insert(t, 1)
		for _, stop := range []func(){func() { panic("source") }, runtime.Goexit} {
			for _, size := range []int64{0, 100, 3 << 20} {
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { recover() }()
					src := io.MultiReader(io.LimitReader(zeros{}, size), stopping(stop))
					if _, err := w.manager.Upload(context.Background(), c, "scans", src, attach.Options{}); err == nil {
						t.Error("Upload took a source that did not return")
					}
				}()
				<-done
			}
		}
		if n := w.count(t, "SELECT count(*) FROM kms_attachment_objects"); n != 0 {
			t.Errorf("%s: %d objects are listed, want none", name, n)
		}
		if m, ok := bucket.(*attach.Memory); ok && len(m.Names()) != 0 {
			t.Errorf("objects %v are left", m.Names())
		}
	}
	if left := filesIn(t, folder); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

type stopping func()

func (s stopping) Read([]byte) (int, error) { s(); return 0, io.EOF }
