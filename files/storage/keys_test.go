package storage

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	_ "gocloud.dev/blob/fileblob"

	"github.com/kmsencrypted/kmsencrypted"
)

// A key that is no path is an error of every operation and every kind of service, where
// the driver of a URL panicked.
func TestKeysAreChecked(t *testing.T) {
	t.Parallel()
	services, err := open(t, "folder: {service: Disk, root: "+t.TempDir()+"}\nmemory: {service: Memory}\nurl: {service: URL, url: 'file://"+t.TempDir()+"'}\n", Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range services.Names() {
		s, err := services.Service(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"../../x", "", ".", "..", "/etc/passwd", "a/../b", "a//b", "abcd/", "../", "ab\xffcd"} {
			for what, do := range map[string]func() error{
				"Upload":   func() error { return s.Upload(t.Context(), key, strings.NewReader("x"), UploadOptions{}) },
				"Open":     func() error { _, err := s.Open(t.Context(), key); return err },
				"Download": func() error { _, err := s.Download(t.Context(), key, nil); return err },
				"Chunk":    func() error { _, err := s.Chunk(t.Context(), key, 0, 1); return err },
				"Exists":   func() error { _, err := s.Exists(t.Context(), key); return err },
				"Delete":   func() error { return s.Delete(t.Context(), key) },
				"URL":      func() error { _, err := s.URL(t.Context(), key, URLOptions{}); return err },
				"Compose":  func() error { return s.Compose(t.Context(), []string{key}, "abcdef", UploadOptions{}) },
				"DeletePrefix": func() error {
					if key == "" || key == "abcd/" {
						return fs.ErrInvalid // which is another error, and a good prefix
					}
					_, err := s.DeletePrefix(t.Context(), key)
					return err
				},
			} {
				if err := do(); !errors.Is(err, fs.ErrInvalid) {
					t.Errorf("%s(%q) of %s = %v, want fs.ErrInvalid", what, key, name, err)
				}
			}
		}
	}
}

// Settings that would be ignored are an error.
func TestSecondDocument(t *testing.T) {
	t.Parallel()
	const one = "local: {service: Memory}\n"
	for text, good := range map[string]bool{
		one: true, "---\n" + one: true, one + "...\n": true,
		one + "---\namazon: {service: S3, bucket: app}\n": false, one + "---\n" + one: false, one + "---\n{{{": false, "---\n---\n" + one: false,
	} {
		if _, err := open(t, text, Options{}); errors.Is(err, kmsencrypted.ErrConfig) == good {
			t.Errorf("Open(%q) = %v, want it to work: %v", text, err, good)
		}
	}
}
