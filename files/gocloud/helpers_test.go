package gocloud

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
)

// spy is a store that tells of every call before it happens, and may refuse it.
type spy struct {
	*blob.Bucket

	mu   sync.Mutex
	call func(op, key string) error // never nil
	body func(key string, off int64, r io.Reader) io.Reader
	reads
}

// reads counts the reads from the store.
type reads struct {
	requests int
	bytes    int64
	largest  int64
}

func newSpy(inner *blob.Bucket) *spy {
	return &spy{Bucket: inner, call: func(string, string) error { return nil }}
}

func (s *spy) tell(op, key string) error {
	s.mu.Lock()
	call := s.call
	s.mu.Unlock()
	return call(op, key)
}

// hear replaces call.
func (s *spy) hear(call func(op, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.call = call
}

func (s *spy) counted(f func()) reads {
	s.mu.Lock()
	s.reads = reads{}
	s.mu.Unlock()
	f()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *spy) ErrorCode(err error) gcerrors.ErrorCode { return gcerrors.Code(err) }
func (s *spy) Close() error                           { return nil }
func (s *spy) ErrorAs(error, any) bool                { return false }

func (s *spy) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	if err := s.tell("attributes", key); err != nil {
		return nil, err
	}
	a, err := s.Bucket.Attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{ContentType: a.ContentType, CreateTime: a.CreateTime, ModTime: a.ModTime, Size: a.Size, ETag: a.ETag, Metadata: a.Metadata, MD5: a.MD5}, nil
}

func (s *spy) ListPaged(ctx context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	if err := s.tell("list", o.Prefix); err != nil {
		return nil, err
	}
	token := o.PageToken
	if len(token) == 0 {
		token = blob.FirstPageToken
	}
	size := o.PageSize
	if size == 0 {
		size = 100
	}
	objects, next, err := s.Bucket.ListPage(ctx, token, size, &blob.ListOptions{Prefix: o.Prefix, Delimiter: o.Delimiter})
	page := &driver.ListPage{NextPageToken: next}
	for _, l := range objects {
		page.Objects = append(page.Objects, &driver.ListObject{Key: l.Key, ModTime: l.ModTime, Size: l.Size, MD5: l.MD5, IsDir: l.IsDir})
	}
	return page, err
}

type spyReader struct {
	*blob.Reader
	body io.Reader
	spy  *spy
}

func (s *spy) NewRangeReader(ctx context.Context, key string, off, n int64, o *driver.ReaderOptions) (driver.Reader, error) {
	if err := s.tell("read", key); err != nil {
		return nil, err
	}
	r, err := s.Bucket.NewRangeReader(ctx, key, off, n, &blob.ReaderOptions{BeforeRead: o.BeforeRead})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.largest = max(s.largest, n)
	body := io.Reader(r)
	if s.body != nil {
		body = s.body(key, off, r)
	}
	return spyReader{r, body, s}, nil
}

func (r spyReader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	r.spy.mu.Lock()
	defer r.spy.mu.Unlock()
	r.spy.bytes += int64(n)
	return n, err
}

func (r spyReader) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{ContentType: r.ContentType(), ModTime: r.ModTime(), Size: r.Size()}
}

type spyWriter struct {
	*blob.Writer
	spy    *spy
	key    string
	cancel context.CancelFunc
}

func (s *spy) NewTypedWriter(ctx context.Context, key, contentType string, o *driver.WriterOptions) (driver.Writer, error) {
	if err := s.tell("write", key); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w, err := s.Bucket.NewWriter(ctx, key, &blob.WriterOptions{ContentType: contentType, DisableContentTypeDetection: true, Metadata: o.Metadata, BeforeWrite: o.BeforeWrite, IfNotExist: o.IfNotExist})
	if err != nil {
		cancel()
		return nil, err
	}
	return spyWriter{w, s, key, cancel}, nil
}

// Close may be refused before the object is visible, or after it.
func (w spyWriter) Close() error {
	if err := w.spy.tell("commit", w.key); err != nil {
		w.cancel()
		w.Writer.Close()
		return err
	}
	if err := w.Writer.Close(); err != nil {
		return err
	}
	return w.spy.tell("committed", w.key)
}

func (s *spy) Copy(ctx context.Context, to, from string, o *driver.CopyOptions) error {
	if err := s.tell("copy", to); err != nil {
		return err
	}
	if err := s.Bucket.Copy(ctx, to, from, &blob.CopyOptions{BeforeCopy: o.BeforeCopy}); err != nil {
		return err
	}
	return s.tell("copied", to)
}

func (s *spy) deleteWith(key string, remove func() error) error {
	if err := s.tell("delete", key); err != nil {
		return err
	}
	if err := remove(); err != nil {
		return err
	}
	return s.tell("deleted", key)
}

func (s *spy) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	panic("nobody signs")
}

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

func write(t testing.TB, b *blob.Bucket, key string, plaintext []byte) {
	t.Helper()
	if err := b.WriteAll(t.Context(), key, plaintext, nil); err != nil {
		t.Fatal(err)
	}
}

func wantBytes(t testing.TB, b *blob.Bucket, key string, want []byte) {
	t.Helper()
	if got, err := b.ReadAll(t.Context(), key); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s = %d bytes, %v, want %d bytes", key, len(got), err, len(want))
	}
}

// stored lists the objects of a store.
func stored(t testing.TB, b *blob.Bucket) (objects, sidecars []string) {
	t.Helper()
	list := b.List(nil)
	for {
		o, err := list.Next(t.Context())
		if err == io.EOF {
			return objects, sidecars
		} else if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(o.Key, sidecarEnd) {
			sidecars = append(sidecars, o.Key)
		} else {
			objects = append(objects, o.Key)
		}
	}
}

// wantTidy checks that every object has its sidecar and that there is no other.
func wantTidy(t testing.TB, b *blob.Bucket, want int) {
	t.Helper()
	objects, sidecars := stored(t, b)
	if len(objects) != want || len(sidecars) != want {
		t.Errorf("store has objects %q and sidecars %q, want %d of each", objects, sidecars, want)
	}
	for _, key := range objects {
		id, err := (&Bucket{inner: b}).fileID(t.Context(), key)
		if err != nil {
			t.Error(err)
		}
		if ok, err := b.Exists(t.Context(), sidecarName(key, id)); err != nil || !ok {
			t.Errorf("%s has no sidecar: %v", key, err)
		}
	}
}
