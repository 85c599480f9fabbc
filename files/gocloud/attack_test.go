package gocloud

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// What somebody with write access to the store can do to an object.
func TestDamage(t *testing.T) {
	t.Parallel()
	const size = 3*files.ChunkSize + 100
	rename := func(t *testing.T, inner *blob.Bucket, from, to string) {
		if err := inner.Copy(t.Context(), to, from, nil); err != nil {
			t.Fatal(err)
		}
	}
	change := func(f func(raw []byte) []byte) func(*testing.T, *blob.Bucket, string, string) {
		return func(t *testing.T, inner *blob.Bucket, _, _ string) {
			raw, err := inner.ReadAll(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			write(t, inner, "x", f(bytes.Clone(raw)))
		}
	}
	flip := func(at int) func(*testing.T, *blob.Bucket, string, string) {
		return change(func(raw []byte) []byte { raw[at] ^= 1; return raw })
	}
	cut := func(n int) func(*testing.T, *blob.Bucket, string, string) {
		return change(func(raw []byte) []byte { return raw[:len(raw)-n] })
	}
	// x and y are objects, keyX and keyY their sidecars.
	for name, c := range map[string]struct {
		attack func(t *testing.T, inner *blob.Bucket, keyX, keyY string)
		want   error
		sized  bool // Attributes does not see it: it reads no chunk
	}{
		"sidecar deleted": {func(t *testing.T, inner *blob.Bucket, keyX, _ string) {
			if err := inner.Delete(t.Context(), keyX); err != nil {
				t.Fatal(err)
			}
		}, ErrNoKey, false},
		"sidecar of another object": {func(t *testing.T, inner *blob.Bucket, keyX, keyY string) { rename(t, inner, keyY, keyX) }, kmsencrypted.ErrDecrypt, false},
		"sidecar is plaintext": {func(t *testing.T, inner *blob.Bucket, keyX, _ string) {
			write(t, inner, keyX, []byte("secret"))
		}, kmsencrypted.ErrMalformed, false},
		"sidecar is endless": {func(t *testing.T, inner *blob.Bucket, keyX, _ string) {
			write(t, inner, keyX, make([]byte, maxSidecar+1))
		}, kmsencrypted.ErrTooLarge, false},
		"another object with its sidecar": {func(t *testing.T, inner *blob.Bucket, _, keyY string) {
			rename(t, inner, "y", "x")
			rename(t, inner, keyY, "x"+keyY[1:])
		}, kmsencrypted.ErrDecrypt, false},
		"another object":       {func(t *testing.T, inner *blob.Bucket, _, _ string) { rename(t, inner, "y", "x") }, ErrNoKey, false},
		"plaintext":            {change(func([]byte) []byte { return pattern(size) }), kmsencrypted.ErrNotCiphertext, false},
		"nothing in it":        {change(func([]byte) []byte { return nil }), files.ErrTruncated, false},
		"id changed":           {flip(20), ErrNoKey, false},
		"suite changed":        {flip(9), kmsencrypted.ErrMalformed, false},
		"salt changed":         {flip(40), kmsencrypted.ErrDecrypt, true},
		"commitment changed":   {flip(60), kmsencrypted.ErrDecrypt, true},
		"first chunk changed":  {flip(200), kmsencrypted.ErrDecrypt, true},
		"middle chunk changed": {flip(88 + 2*(files.ChunkSize+16) + 9), kmsencrypted.ErrDecrypt, true},
		"cut inside":           {cut(10), kmsencrypted.ErrDecrypt, true},
		"cut on a border":      {cut(116), files.ErrTruncated, false},
		"a chunk cut out":      {cut(116 + files.ChunkSize + 16), files.ErrTruncated, false},
		"longer":               {change(func(raw []byte) []byte { return append(raw, 0) }), kmsencrypted.ErrDecrypt, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := memblob.OpenBucket(nil)
			b := New(inner, "test", kmstest.Box(t), Options{})
			write(t, b.Blob(), "x", pattern(size))
			write(t, b.Blob(), "y", pattern(size))
			_, sidecars := stored(t, inner)
			c.attack(t, inner, sidecars[0], sidecars[1])
			if got, err := b.Blob().ReadAll(t.Context(), "x"); !errors.Is(err, c.want) || gcerrors.Code(err) == gcerrors.NotFound || !bytes.HasPrefix(pattern(size), got) {
				t.Errorf("ReadAll = %d bytes, %v, want %v", len(got), err, c.want)
			}
			if err := b.Blob().Download(t.Context(), "x", io.Discard, nil); !errors.Is(err, c.want) {
				t.Errorf("Download: %v, want %v", err, c.want)
			}
			f, err := b.Open(t.Context(), "x")
			if err == nil {
				_, err = io.ReadAll(f)
			}
			if !errors.Is(err, c.want) {
				t.Errorf("Open and read: %v, want %v", err, c.want)
			}
			if _, err := b.Blob().Attributes(t.Context(), "x"); (err == nil) != c.sized || err != nil && !errors.Is(err, c.want) {
				t.Errorf("Attributes: %v, want %v", err, c.want)
			}
			if ok, err := b.Blob().Exists(t.Context(), "x"); err == nil && !ok {
				t.Error("a damaged object does not exist, which invites to write over it")
			}
			wantBytes(t, b.Blob(), "y", pattern(size))
		})
	}
}

func TestWrongBox(t *testing.T) {
	t.Parallel()
	inner := memblob.OpenBucket(nil)
	write(t, Encrypt(inner, "test", kmstest.Box(t)), "x", pattern(10))
	other := New(inner, "test", kmstest.Box(t), Options{Context: func(_, key string) kmsencrypted.EncryptionContext {
		return kmsencrypted.Context{"object": key, "tenant": "b"}
	}})
	if _, err := other.Blob().ReadAll(t.Context(), "x"); !errors.Is(err, kmsencrypted.ErrDecrypt) || gcerrors.Code(err) != gcerrors.FailedPrecondition {
		t.Errorf("under another context: %v", err)
	}
}

// A reader reads one version, or fails.
func TestReplacedWhileReading(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	for name, n := range map[string]int{"by another size": size + 1, "by the same size": size} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := New(memblob.OpenBucket(nil), "test", kmstest.Box(t), Options{})
			write(t, b.Blob(), "x", make([]byte, size))
			r, err := b.Blob().NewReader(t.Context(), "x", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			f, err := b.Open(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			write(t, b.Blob(), "x", pattern(n))
			if got, err := io.ReadAll(r); !errors.Is(err, ErrReplaced) || !bytes.Equal(got, make([]byte, len(got))) {
				t.Errorf("reading on: %d bytes, %v", len(got), err)
			}
			if _, err := f.ReadAt(make([]byte, 10), size/2); !errors.Is(err, ErrReplaced) {
				t.Errorf("ReadAt: %v", err)
			}
			wantBytes(t, b.Blob(), "x", pattern(n))
		})
	}
}

// The clock of some stores ticks in seconds: only the header tells.
func TestReplacedWithinATick(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	var object []byte
	store := newSpy(memblob.OpenBucket(nil))
	b := New(blob.NewBucket(store), "test", kmstest.Box(t), Options{})
	write(t, b.Blob(), "y", pattern(size))
	object, err := store.ReadAll(t.Context(), "y")
	if err != nil {
		t.Fatal(err)
	}
	write(t, b.Blob(), "x", make([]byte, size))
	f, err := b.Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	store.mu.Lock()
	store.body = func(_ string, off int64, _ io.Reader) io.Reader { return bytes.NewReader(object[off:]) }
	store.mu.Unlock()
	if _, err := f.ReadAt(make([]byte, 10), size/2); !errors.Is(err, ErrReplaced) {
		t.Errorf("ReadAt: %v", err)
	}
}

// brokenBody gives a few bytes and fails.
type brokenBody struct {
	io.Reader
	err error
}

func (b brokenBody) Read(p []byte) (int, error) {
	if n, err := b.Reader.Read(p); n > 0 || err != io.EOF {
		return n, err
	}
	return 0, b.err
}

// A transfer that breaks is taken up where it broke; one that always breaks fails.
func TestBrokenTransfers(t *testing.T) {
	t.Parallel()
	store := newSpy(memblob.OpenBucket(nil))
	b := New(blob.NewBucket(store), "test", kmstest.Box(t), Options{})
	plaintext := pattern(1 << 20)
	write(t, b.Blob(), "x", plaintext)
	breakOff := errors.New("connection reset")
	setBody := func(f func(key string, off int64, r io.Reader) io.Reader) {
		store.mu.Lock()
		defer store.mu.Unlock()
		store.body = f
	}
	for name, err := range map[string]error{"with an error": breakOff, "without one": io.EOF} {
		setBody(func(key string, _ int64, r io.Reader) io.Reader {
			if key != "x" {
				return r
			}
			return brokenBody{io.LimitReader(r, 400_000), err}
		})
		wantBytes(t, b.Blob(), "x", plaintext)
		var out bytes.Buffer
		if err := b.Blob().Download(t.Context(), "x", &out, nil); err != nil || !bytes.Equal(out.Bytes(), plaintext) {
			t.Errorf("%s: Download = %d bytes, %v", name, out.Len(), err)
		}
		setBody(func(_ string, off int64, r io.Reader) io.Reader {
			return brokenBody{io.LimitReader(r, max(0, 500_000-off)), err}
		})
		want := err
		if err == io.EOF {
			want = io.ErrUnexpectedEOF
		}
		if got, err := b.Blob().ReadAll(t.Context(), "x"); !errors.Is(err, want) || !bytes.HasPrefix(plaintext, got) {
			t.Errorf("%s, always: %d bytes, %v, want %v", name, len(got), err, want)
		}
		setBody(nil)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f, err := b.Open(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := f.ReadAt(make([]byte, 10), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
}

func FuzzSplitSidecar(f *testing.F) {
	f.Add(sidecarName("a/b", files.NewID()))
	f.Add(sidecarName("", files.ID{}))
	f.Add("a.ABCDEF0123456789abcdef0123456789.kek")
	f.Add("x.kek")
	f.Fuzz(func(t *testing.T, name string) {
		if key, id, ok := splitSidecar(name); ok && sidecarName(key, id) != name {
			t.Errorf("%q splits into %q and %v", name, key, id)
		}
	})
}
