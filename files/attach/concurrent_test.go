package attach_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// A client asks for two ranges and is gone after the first bytes. net/http still reads in
// a goroutine of its own while the handler closes the file.
func TestCloseWhileRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	content := make([]byte, 2<<20)
	rand.Read(content)
	a := w.attach(t, w.insert(t, 1), "license", content)
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		f, err := w.manager.Open(context.WithoutCancel(r.Context()), a)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		http.ServeContent(out, r, "", f.ModTime(), f)
	}))
	defer server.Close()
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for range 25 {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Range", "bytes=0-900000,1000000-1900000")
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				io.CopyN(io.Discard, answer.Body, 1000)
				answer.Body.Close()
			}
		})
	}
	clients.Wait()
	f, err := w.manager.Open(t.Context(), a)
	must(t, err)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				if _, err := f.Read(make([]byte, 100)); err != nil {
					if !errors.Is(err, fs.ErrClosed) && err != io.EOF {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	must(t, f.Close())
	readers.Wait()
}

// strange is a bucket whose Put does something else than it promises.
type strange struct {
	attach.Memory
	put func(b *attach.Memory, ctx context.Context, name string, write func(io.Writer) error) error
}

func (s *strange) Put(ctx context.Context, name string, write func(io.Writer) error) error {
	return s.put(&s.Memory, ctx, name, write)
}

// A bucket that reads the source twice, never or without its error is found out: the file
// would be empty.
func TestStrangePut(t *testing.T) {
	t.Parallel()
	for what, put := range map[string]func(b *attach.Memory, ctx context.Context, name string, write func(io.Writer) error) error{
		"twice": func(b *attach.Memory, ctx context.Context, name string, write func(io.Writer) error) error {
			if err := b.Put(ctx, name+"first", write); err != nil {
				return err
			}
			return b.Put(ctx, name, write)
		},
		"twice, and no word of it": func(b *attach.Memory, ctx context.Context, name string, write func(io.Writer) error) error {
			b.Put(ctx, name, write)
			b.Put(ctx, name, write)
			return nil
		},
		"never": func(b *attach.Memory, ctx context.Context, name string, _ func(io.Writer) error) error {
			return b.Put(ctx, name, func(io.Writer) error { return nil })
		},
		"without its error": func(b *attach.Memory, ctx context.Context, name string, write func(io.Writer) error) error {
			return b.Put(ctx, name, func(w io.Writer) error { write(w); return nil })
		},
	} {
		bucket := &strange{put: put}
		w := newWorld(t, sqlite, func(c *attach.Config) { c.Buckets = map[string]attach.Bucket{"strange": bucket}; c.Bucket = "strange" })
		source := io.Reader(strings.NewReader("the only copy"))
		if what == "without its error" {
			source = io.MultiReader(source, errReader{errors.New("broken")})
		}
		if _, err := w.manager.Upload(t.Context(), w.insert(t, 1), "license", source, attach.Options{}); err == nil {
			t.Errorf("a bucket that calls write %s: no error", what)
		}
	}
}

// A store that damages the middle of an object, as it confirms it, does not cost the file
// that is encrypted anew.
func TestReencryptReadsBack(t *testing.T) {
	t.Parallel()
	damages := false
	bucket := &strange{put: func(b *attach.Memory, ctx context.Context, name string, write func(io.Writer) error) error {
		if err := b.Put(ctx, name, write); err != nil || !damages {
			return err
		}
		b.Change(name, func(object []byte) []byte {
			object[len(object)/2] ^= 1
			return object
		})
		return nil
	}}
	w := newWorld(t, sqlite, func(c *attach.Config) {
		c.Buckets, c.Bucket, c.Grace = map[string]attach.Bucket{"strange": bucket}, "strange", time.Millisecond
	})
	content := make([]byte, 1<<20)
	rand.Read(content)
	a := w.attach(t, w.insert(t, 1), "license", content)
	damages = true
	if moved, err := w.manager.Reencrypt(t.Context(), a, nil); !errors.Is(err, kmsencrypted.ErrDecrypt) {
		t.Errorf("Reencrypt = %v, %v, want ErrDecrypt", moved, err)
	}
	time.Sleep(5 * time.Millisecond)
	_, err := w.manager.Sweep(t.Context())
	must(t, err)
	w.holds(t, a, content)
}

// Whoever names the wrong record gets nothing of the right one.
func TestOpenFromAnotherRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	one, two := w.insert(t, 1), w.insert(t, 2)
	a := w.attach(t, one, "license", []byte("secret of 1"))
	if f, err := w.manager.OpenFrom(t.Context(), two, a); f != nil || !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("OpenFrom another record = %v", err)
	}
	called := false
	_, err := w.manager.Derive(t.Context(), two, a, "small", attach.Options{}, func(io.Writer, *attach.File) error { called = true; return nil })
	if called || !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Derive for another record = %v, called %t", err, called)
	}
	f, err := w.manager.OpenFrom(t.Context(), one, a)
	must(t, err)
	must(t, f.Close())
}

type errReader struct{ error }

func (e errReader) Read([]byte) (int, error) { return 0, e.error }
