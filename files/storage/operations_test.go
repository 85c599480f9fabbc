package storage_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/memblob"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/files/storage"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/servicetest"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// The operations of a service of Active Storage, on every kind that needs no network.
func TestOperations(t *testing.T) {
	t.Parallel()
	text := "disk: {service: Disk, root: " + t.TempDir() + "}\nmemory: {service: Memory}\nurl: {service: URL, url: 'mem://', prefix: some/}" +
		"\nnative: {service: NativeURL, url: 'mem://', prefix: some/}"
	services, err := storage.Open(t.Context(), []byte(text), storage.Options{Box: kmstest.Box(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := services.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range services.Names() {
		t.Run(name, func(t *testing.T) {
			s, err := services.Service(name)
			if err != nil {
				t.Fatal(err)
			}
			if is := strings.HasPrefix(name, "native"); is != s.Encrypts() || is != (s.Native() != nil) {
				t.Errorf("Encrypts() = %t, Native() = %v", s.Encrypts(), s.Native())
			}
			servicetest.Run(t, s)
		})
	}
}

// Objects of a native service are ciphertext, and move to another version of the Box.
func TestNative(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	text := "native: {service: NativeURL, url: 'file://" + filepath.ToSlash(root) + "?create_dir=true'}"
	service := func(current int) *storage.Service {
		services, err := storage.Open(t.Context(), []byte(text), storage.Options{Box: boxAt(t, current)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { services.Close() })
		s, err := services.Service("native")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const content = "a contract that nobody else should read"
	if err := service(1).Upload(t.Context(), "contracts/1", strings.NewReader(content), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		stored, err := os.ReadFile(path)
		if strings.Contains(string(stored), "contract that") {
			t.Errorf("%s has plaintext", d.Name())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s := service(2)
	if moved, err := s.Native().Rewrap(t.Context(), gocloud.RewrapOptions{}); err != nil || moved.Rewrapped != 1 {
		t.Fatalf("Rewrap() = %+v, %v", moved, err)
	}
	if got, err := s.Chunk(t.Context(), "contracts/1", 2, 8); err != nil || string(got) != "contract" {
		t.Errorf("Chunk = %q, %v", got, err)
	}
	if _, err := storage.Open(t.Context(), []byte(text), storage.Options{}); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Open without a Box = %v, want ErrConfig", err)
	}
}

// boxAt has two versions.
func boxAt(t *testing.T, current int) *kmsencrypted.Box {
	t.Helper()
	box, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{
		1: {Provider: testkey.New()}, 2: {Provider: testkey.New()},
	}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	return box
}
