// Package vectors loads the test data that the Ruby gems and a Rails
// application made. Only tests import it.
//
// The folders are the project's own testdata/ruby and testdata/rails, or those
// in KMSENCRYPTED_VECTORS and KMSENCRYPTED_RAILS.
package vectors

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Files are the vector files that the test suite knows.
var Files = []string{
	"activerecord.json", "activerecord_deflate.json", "attr_encrypted.json", "blind_index.json", "kms_box_test_key.json", "kms_context.json",
	"kms_legacy.json", "kms_requests.json", "lockbox_box.json", "lockbox_files.json",
	"lockbox_keys.json", "lockbox_large.json", "lockbox_model.json", "lockbox_padding.json", "lockbox_types.json",
	"model_rows.json", "ruby_base64.json",
}

// S3EC are the vector files of S3 client-side encryption, in a folder of their own.
var S3EC = []string{"ruby.json", "go.json", "v3-built.json", "negative.json"}

// LoadS3EC decodes one of [S3EC] into v and returns the folder, in which the bodies of
// the objects are. It skips the test if the folder in KMSENCRYPTED_VECTORS has none.
func LoadS3EC(t testing.TB, file string, v any) (dir string) {
	t.Helper()
	dir = folder("KMSENCRYPTED_VECTORS", "s3ec")
	if below := filepath.Join(dir, "s3ec"); hasAny(below, S3EC) {
		dir = below
	}
	load(t, filepath.Join(dir, file), v)
	return dir
}

// Load decodes a vector file into v. It skips the test if the folder lacks this
// file, and fails it if the folder has no known file.
func Load(t testing.TB, file string, v any) {
	t.Helper()
	dir := folder("KMSENCRYPTED_VECTORS", "ruby")
	requireAny(t, dir, slices.Concat(Files, S3EC))
	load(t, filepath.Join(dir, file), v)
}

// Ran prints how many cases of a file a test ran. It fails the test for none: a
// loop that never ran proves nothing.
func Ran(t testing.TB, file string, cases int) {
	t.Helper()
	if cases == 0 {
		t.Errorf("%s: no case ran", file)
	}
	fmt.Printf("vectors: %-24s %4d cases in %s\n", file, cases, t.Name())
}

// Skipped prints how many cases of a file a test did not run, and why.
func Skipped(t testing.TB, file string, cases int, why string) {
	t.Helper()
	if cases > 0 {
		fmt.Printf("vectors: %-24s %4d skipped in %s: %s\n", file, cases, t.Name(), why)
	}
}

func load(t testing.TB, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Printf("vectors: %-24s not in this folder, for %s\n", filepath.Base(path), t.Name())
		t.Skipf("no %s in this folder", filepath.Base(path))
	}
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := decode(data, v)
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(path), err)
	}
	Skipped(t, filepath.Base(path), unknown, "of a shape that is not known")
	if unknown > 0 && strings.HasPrefix(path, Root()) {
		t.Errorf("%s: %d cases of the project's own file have a shape that is not known", filepath.Base(path), unknown)
	}
}

func requireAny(t testing.TB, dir string, files []string) {
	t.Helper()
	if !hasAny(dir, files) {
		t.Fatalf("%s holds none of the known files %q", dir, files)
	}
}

func hasAny(dir string, files []string) bool {
	return slices.ContainsFunc(files, func(file string) bool {
		_, err := os.Stat(filepath.Join(dir, file))
		return err == nil
	})
}

// folder returns the folder in the environment variable, relative to the
// project's root, or the one in the project's testdata.
func folder(variable, name string) string {
	dir := os.Getenv(variable)
	switch {
	case dir == "":
		return filepath.Join(Root(), "testdata", name)
	case filepath.IsAbs(dir):
		return dir
	default:
		return filepath.Join(Root(), dir)
	}
}

// Root returns the folder of the project.
func Root() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", "..")
}
