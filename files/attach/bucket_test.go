package attach_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/attach/buckettest"
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

func filesIn(t testing.TB, path string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
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
