package serve

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// pattern is plaintext in which no two chunks are equal.
func pattern(n int) []byte {
	out := make([]byte, n)
	x := uint32(n) + 1
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

// store is a bucket with one encrypted file, "x".
type store struct {
	*gocloud.Bucket
	inner     *blob.Bucket
	plaintext []byte
}

func newStore(t testing.TB, plaintext []byte, contentType string) store {
	t.Helper()
	inner := memblob.OpenBucket(nil)
	s := store{gocloud.New(inner, "test", kmstest.Box(t), gocloud.Options{}), inner, plaintext}
	err := s.Blob().WriteAll(t.Context(), "x", plaintext, &blob.WriterOptions{ContentType: contentType})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// change modifies an object in the store.
func (s store) change(t testing.TB, f func(raw []byte) []byte) {
	t.Helper()
	raw, err := s.inner.ReadAll(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.inner.WriteAll(t.Context(), "x", f(raw), nil); err != nil {
		t.Fatal(err)
	}
}

func (s store) handler(o Options) http.Handler {
	return Handler(func(*http.Request) (string, error) { return "x", nil }, s.Open, o)
}

// memory is a plain file.
type memory struct {
	*bytes.Reader
	name, contentType, tag string
	closed                 bool
}

func newMemory(content []byte) *memory {
	return &memory{Reader: bytes.NewReader(content), name: "x", contentType: "text/plain", tag: `"1"`}
}

func (m *memory) Name() string        { return m.name }
func (m *memory) ContentType() string { return m.contentType }
func (m *memory) ETag() string        { return m.tag }
func (m *memory) ModTime() time.Time  { return time.Unix(1_700_000_000, 0) }
func (m *memory) Close() error        { m.closed = true; return nil }

// get answers a request with one file.
func get(f File, o Options, set ...func(http.Header)) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	for _, s := range set {
		s(w.Header())
	}
	open := func(context.Context, string) (File, error) { return f, nil }
	Handler(func(*http.Request) (string, error) { return "", nil }, open, o).
		ServeHTTP(w, httptest.NewRequest("GET", "/x", nil))
	return w
}

func body(t testing.TB, r *http.Response) []byte {
	t.Helper()
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
