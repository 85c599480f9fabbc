package attach_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
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

// Of several uploads of one name at once one succeeds, and its object stays.
func TestDirPutAtOnce(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDir(t, path)
	for n := range 200 {
		name := fmt.Sprintf("abcd%d", n)
		const uploads = 4
		errs := make([]error, uploads)
		var started, done sync.WaitGroup
		started.Add(uploads)
		for i := range uploads {
			done.Go(func() {
				started.Done()
				started.Wait()
				errs[i] = d.Put(t.Context(), name, write(fmt.Sprint(i)))
			})
		}
		done.Wait()
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won < 0:
				won = i
			case !errors.Is(err, fs.ErrExist):
				t.Fatalf("upload %d of %s = %v after upload %d succeeded, want fs.ErrExist", i, name, err, won)
			}
		}
		if won < 0 {
			t.Fatalf("no upload of %s succeeded: %v", name, errors.Join(errs...))
		}
		if got, err := os.ReadFile(filepath.Join(path, "ab", "cd", name)); err != nil || string(got) != fmt.Sprint(won) {
			t.Fatalf("%s = %q, %v, want that of upload %d", name, got, err, won)
		}
	}
	if left := filesIn(t, path); len(left) != 200 {
		t.Errorf("%d files, want 200: something is left behind", len(left))
	}
}

// An upload that was killed does not keep the next one of its name away, and Prune deletes
// what it left.
func TestDirAfterKill(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDir(t, path)
	half := make(chan struct{})
	killed, cancel := context.WithCancel(t.Context())
	defer cancel()
	go d.Put(killed, "abcdef", func(w io.Writer) error {
		w.Write(make([]byte, 1<<20))
		close(half)
		<-killed.Done()
		return killed.Err()
	})
	<-half
	// The process of the first upload is as good as dead: its part stays as it is.
	if err := d.Put(t.Context(), "abcdef", write("whole")); err != nil {
		t.Errorf("Put beside the part of a dead upload = %v", err)
	}
	var part string
	for _, name := range filesIn(t, path) {
		if name != "abcdef" {
			part = filepath.Join(path, "ab", "cd", name)
		}
	}
	left := part + "x.part" // as if its name were another
	must(t, os.WriteFile(left, []byte("half"), 0o600))
	if n, err := d.Prune(t.Context(), time.Hour); n != 0 || err != nil {
		t.Errorf("Prune of new parts = %d, %v, want none", n, err)
	}
	old := time.Now().Add(-2 * time.Hour)
	must(t, os.Chtimes(left, old, old))
	must(t, os.Chtimes(filepath.Join(path, "ab", "cd", "abcdef"), old, old))
	if n, err := d.Prune(t.Context(), time.Hour); n != 1 || err != nil {
		t.Errorf("Prune = %d, %v, want 1", n, err)
	}
	if err := d.Delete(t.Context(), "abcdef"); err != nil {
		t.Fatal(err)
	}
	if names := filesIn(t, path); len(names) > 0 {
		t.Errorf("%v is left after Delete", names)
	}
	if _, err := d.Prune(t.Context(), time.Minute); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Prune of what is a minute old = %v, want ErrConfig", err)
	}
}
