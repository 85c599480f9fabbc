package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/files/storage"
)

// cancels ends a context with its last byte, as a client that is gone does.
type cancels struct {
	io.Reader
	cancel context.CancelFunc
}

func (c cancels) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.EOF {
		c.cancel()
	}
	return n, err
}

// What goes wrong with an upload to a key that is taken leaves the object there alone.
func TestUploadToTakenKey(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"mem":    "s:\n  service: URL\n  url: mem://\n",
		"file":   "s:\n  service: URL\n  url: file://" + t.TempDir() + "\n",
		"disk":   "s:\n  service: Disk\n  root: " + t.TempDir() + "\n",
		"memory": "s:\n  service: Memory\n",
	} {
		services, err := storage.Open(t.Context(), []byte(text), storage.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := services.Service("s")
		if err != nil {
			t.Fatal(err)
		}
		const key = "reports/2026.pdf"
		if err := s.Upload(t.Context(), key, strings.NewReader("the first"), storage.UploadOptions{}); err != nil {
			t.Fatal(name, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for what, err := range map[string]error{
			"a second":               s.Upload(t.Context(), key, strings.NewReader("the second"), storage.UploadOptions{}),
			"one that is cancelled":  s.Upload(ctx, key, cancels{strings.NewReader("the third"), cancel}, storage.UploadOptions{}),
			"a composition onto one": s.Compose(t.Context(), []string{key, "reports/missing"}, key, storage.UploadOptions{}),
		} {
			if !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s: %s: %v, want fs.ErrExist", name, what, err)
			}
		}
		cancel()
		var got bytes.Buffer
		if _, err := s.Download(t.Context(), key, &got); err != nil || got.String() != "the first" {
			t.Errorf("%s: the first one is %q, %v", name, got.String(), err)
		}
	}
}
