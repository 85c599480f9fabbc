// Package servicetest tests the operations of a [storage.Service].
package servicetest

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/kmsencrypted/kmsencrypted/files/s3ec"
	"github.com/kmsencrypted/kmsencrypted/files/storage"
)

// Run uses every operation of a service. It writes about 6 MiB, which S3 takes in parts.
func Run(t *testing.T, s *storage.Service) {
	t.Helper()
	ctx := t.Context()
	file := make([]byte, 6<<20+5)
	rand.Read(file)
	sum := md5.Sum(file)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	reads := func(key string, want []byte) {
		t.Helper()
		var got bytes.Buffer
		if n, err := s.Download(ctx, key, &got); err != nil || n != int64(len(want)) || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s = %d bytes, %v, want those of %d", key, n, err, len(want))
		}
	}
	exists := func(key string, want bool) {
		t.Helper()
		if is, err := s.Exists(ctx, key); is != want || err != nil {
			t.Errorf("Exists(%s) = %t, %v", key, is, err)
		}
	}

	must(s.Upload(ctx, "large", bytes.NewReader(file), storage.UploadOptions{MD5: sum[:]}))
	must(s.Upload(ctx, "empty", strings.NewReader(""), storage.UploadOptions{}))
	must(s.Upload(ctx, "small", iotest.OneByteReader(strings.NewReader("hello")), storage.UploadOptions{Headers: storage.Headers{ContentType: "text/plain"}}))
	reads("large", file)
	reads("empty", nil)
	reads("small", []byte("hello"))

	for _, part := range []struct{ offset, length, from, to int64 }{
		{0, 5, 0, 5}, {3 << 20, 1000, 3 << 20, 3<<20 + 1000}, {int64(len(file)) - 5, 100, int64(len(file)) - 5, int64(len(file))}, {int64(len(file)) + 7, 1, 0, 0}, {0, 0, 0, 0},
	} {
		if got, err := s.Chunk(ctx, "large", part.offset, part.length); err != nil || !bytes.Equal(got, file[part.from:part.to]) {
			t.Errorf("Chunk(%d, %d) = %d bytes, %v", part.offset, part.length, len(got), err)
		}
	}
	if _, err := s.Chunk(ctx, "large", -1, 5); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a negative offset = %v", err)
	}

	// Nothing is left of an upload that fails.
	if err := s.Upload(ctx, "other", strings.NewReader("other bytes"), storage.UploadOptions{MD5: sum[:]}); !errors.Is(err, s3ec.ErrDigest) {
		t.Errorf("another MD5 = %v", err)
	}
	broken := errors.New("the source broke")
	for _, size := range []int{0, 10, len(file)} {
		if err := s.Upload(ctx, "other", io.MultiReader(bytes.NewReader(file[:size]), iotest.ErrReader(broken)), storage.UploadOptions{}); !errors.Is(err, broken) {
			t.Errorf("a source that breaks after %d bytes = %v", size, err)
		}
	}
	exists("other", false)
	if _, err := s.Open(ctx, "other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of none = %v", err)
	}

	must(s.Compose(ctx, []string{"small", "empty", "large", "small"}, "composed", storage.UploadOptions{}))
	reads("composed", bytes.Join([][]byte{[]byte("hello"), file, []byte("hello")}, nil))
	if err := s.Compose(ctx, []string{"small", "other"}, "half", storage.UploadOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Compose with a missing source = %v", err)
	}
	exists("half", false)

	must(s.Compose(ctx, []string{"small"}, "variants/small/one", storage.UploadOptions{}))
	must(s.Compose(ctx, []string{"small"}, "variants/small/two", storage.UploadOptions{}))
	exists("variants/small/one", true)
	exists("variants/small/on", false)
	if n, err := s.DeletePrefix(ctx, "variants/small/"); n != 2 || err != nil {
		t.Errorf("DeletePrefix() = %d, %v, want 2", n, err)
	}
	if _, err := s.DeletePrefix(ctx, ""); err == nil {
		t.Error("DeletePrefix of everything succeeded")
	}
	exists("variants/small/one", false)
	for _, key := range []string{"large", "empty", "small", "composed", "composed"} { // one of them twice
		must(s.Delete(ctx, key))
		exists(key, false)
	}
}
