package gocloud

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func TestNothingReadableInTheStore(t *testing.T) {
	t.Parallel()
	for name, open := range inners {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := open(t)
			b := Encrypt(inner, "test", kmstest.Box(t))
			secrets := []string{"PLAINTEXT-BODY", "text/x-plaintext", "PLAINTEXT-NAME", "plaintext-meta", "PLAINTEXT-VALUE", "x-plaintext-language"}
			err := b.WriteAll(t.Context(), "a/b", []byte(strings.Repeat(secrets[0], 5000)), &blob.WriterOptions{
				ContentType: secrets[1], ContentDisposition: `attachment; filename="` + secrets[2] + `"`,
				Metadata: map[string]string{secrets[3]: secrets[4]}, ContentLanguage: secrets[5],
			})
			if err != nil {
				t.Fatal(err)
			}
			objects, sidecars := stored(t, inner)
			for _, key := range append(objects, sidecars...) {
				raw, err := inner.ReadAll(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				a, err := inner.Attributes(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				if key == "a/b" && a.ContentType != storedContentType && name != "disk without attributes" {
					t.Errorf("stored content type = %q", a.ContentType)
				}
				for _, secret := range secrets {
					if bytes.Contains(raw, []byte(secret)) || strings.Contains(a.ContentType+a.ContentDisposition+a.ContentLanguage, secret) || len(a.Metadata) > 0 {
						t.Errorf("%s: the store knows %q", key, secret)
					}
				}
			}
			wantTidy(t, inner, 1)
		})
	}
}

// sizes are around the borders of chunks and of the first read.
var sizes = []int{0, 1, files.ChunkSize - 1, files.ChunkSize, files.ChunkSize + 1, minAhead - 152, minAhead, minAhead + 1, 5*files.ChunkSize + 17, 300_000}

func TestRanges(t *testing.T) {
	t.Parallel()
	b := Encrypt(memblob.OpenBucket(nil), "test", kmstest.Box(t))
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range sizes {
		plaintext := pattern(size)
		write(t, b, "x", plaintext)
		wantBytes(t, b, "x", plaintext)
		var out bytes.Buffer
		if err := b.Download(t.Context(), "x", &out, nil); err != nil || !bytes.Equal(out.Bytes(), plaintext) {
			t.Errorf("%d bytes: Download = %d bytes, %v", size, out.Len(), err)
		}
		for range 60 {
			off, n := random.IntN(size+3), random.IntN(size+3)-1
			r, err := b.NewRangeReader(t.Context(), "x", int64(off), int64(n), nil)
			if err != nil {
				t.Fatal(err)
			}
			want := plaintext[min(off, size):]
			if n >= 0 {
				want = want[:min(n, len(want))]
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) || r.Size() != int64(size) {
				t.Errorf("%d bytes: range %d+%d = %d bytes, %v, want %d", size, off, n, len(got), err, len(want))
			}
			r.Close()
		}
	}
}

// What is not asked for is not fetched, and reading on fetches more at a time.
func TestFetchesWhatItNeeds(t *testing.T) {
	t.Parallel()
	store := newSpy(memblob.OpenBucket(nil))
	service := kmstest.NewService(nil)
	b := New(blob.NewBucket(store), "test", service.Box(t), Options{})
	const size, sealedChunk = 24 << 20, files.ChunkSize + 16
	plaintext := pattern(size)
	write(t, b.Blob(), "x", plaintext)

	for _, c := range []struct {
		name   string
		off, n int64
		chunks int64
	}{
		{"in one chunk", 5 * files.ChunkSize, 4096, 1},
		{"over a border", 5*files.ChunkSize - 1, 2, 2},
		{"64 KiB", 7*files.ChunkSize + 100, 64 << 10, 5},
	} {
		got := store.counted(func() {
			r, err := b.Blob().NewRangeReader(t.Context(), "x", c.off, c.n, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if p, err := io.ReadAll(r); err != nil || !bytes.Equal(p, plaintext[c.off:][:c.n]) {
				t.Errorf("%s: %d bytes, %v", c.name, len(p), err)
			}
		})
		// The first chunk, the last and the sidecar are read at opening.
		const opening = oneChunk + sealedChunk + 1024
		if got.bytes > opening+c.chunks*sealedChunk || got.requests > 4 {
			t.Errorf("%s: read %d bytes in %d requests, want %d chunks in one", c.name, got.bytes-opening, got.requests, c.chunks)
		}
	}

	got := store.counted(func() { wantBytes(t, b.Blob(), "x", plaintext) })
	// 64 KiB at first, then 128, 256, … KiB to 2 MiB, and 2 MiB until the end, or more
	// where ReadAll asks for more.
	if got.largest < maxAhead || got.requests > 2+6+size/maxAhead+1 || got.bytes > size+size/1000*2+minAhead {
		t.Errorf("reading in order: %+v", got)
	}

	f, err := b.Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 1000)
	got = store.counted(func() {
		for i := range int64(20) {
			off := (20 - i) * 1_000_000
			if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, plaintext[off:][:1000]) {
				t.Errorf("ReadAt(%d): %v", off, err)
			}
		}
	})
	if got.requests != 20 || got.bytes > 20*2*sealedChunk {
		t.Errorf("reading here and there: %+v", got)
	}
}

func TestSeekingCostsNoCall(t *testing.T) {
	t.Parallel()
	service := kmstest.NewService(nil)
	b := Encrypt(memblob.OpenBucket(nil), "test", service.Box(t))
	plaintext := pattern(1 << 20)
	write(t, b, "x", plaintext)
	before := service.Count(kmsencrypted.OpUnwrap)
	r, err := b.NewReader(t.Context(), "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{900_000, 5, 500_000, 5} {
		if _, err := r.Seek(off, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 70_000)
		if _, err := io.ReadFull(r, p); err != nil || !bytes.Equal(p, plaintext[off:][:len(p)]) {
			t.Errorf("at %d: %v", off, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if calls := service.Count(kmsencrypted.OpUnwrap) - before; calls != 1 {
		t.Errorf("%d calls to the key service, want 1", calls)
	}
	var enc *Bucket
	if !b.As(&enc) || len(enc.readers.open) != 0 {
		t.Errorf("a closed reader is still open")
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	b := New(memblob.OpenBucket(nil), "test", kmstest.Box(t), Options{})
	plaintext := pattern(2_000_000)
	err := b.Blob().WriteAll(t.Context(), "dir/x", plaintext, &blob.WriterOptions{
		ContentType: "image/png", ContentDisposition: `attachment; filename="cat.png"`, Metadata: map[string]string{"a": "b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, b.Blob(), "dir/plain", nil)
	f, err := b.Open(t.Context(), "dir/x")
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.Blob().Attributes(t.Context(), "dir/x")
	if err != nil {
		t.Fatal(err)
	}
	if f.Name() != "cat.png" || f.ContentType() != "image/png" || f.Size() != 2_000_000 || !f.ModTime().Equal(a.ModTime) || f.ETag() != a.ETag || f.Metadata()["a"] != "b" {
		t.Errorf("file = %q, %q, %d, %v, %s, %v; attributes %+v", f.Name(), f.ContentType(), f.Size(), f.ModTime(), f.ETag(), f.Metadata(), a)
	}
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range 50 {
				off := random.IntN(len(plaintext))
				p := make([]byte, min(random.IntN(100_000), len(plaintext)-off))
				if _, err := f.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, plaintext[off:][:len(p)]) {
					t.Errorf("ReadAt(%d bytes, %d): %v", len(p), off, err)
				}
			}
		})
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, plaintext) {
		t.Errorf("Read = %d bytes, %v", len(got), err)
	}
	wait.Wait()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	plain, err := b.Open(t.Context(), "dir/plain")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if plain.Name() != "plain" || plain.ID() == f.ID() {
		t.Errorf("file without a name = %q, %v", plain.Name(), plain.ID())
	}
}

func TestListHidesSidecars(t *testing.T) {
	t.Parallel()
	for name, open := range inners {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := open(t)
			b := Encrypt(inner, "test", kmstest.Box(t))
			keys := []string{"a", "b.kek", "c.0123456789abcdef0123456789abcdef", "d/e", "f.k", "g.key"}
			for i, key := range keys {
				write(t, b, key, make([]byte, i))
			}
			write(t, inner, "short", []byte("not ours"))
			for _, size := range []int{1, 2, 3, 100} {
				var got []string
				token := blob.FirstPageToken
				for len(token) > 0 {
					page, next, err := b.ListPage(t.Context(), token, size, nil)
					if err != nil {
						t.Fatal(err)
					}
					for _, o := range page {
						if i := len(got); i < len(keys) && o.Size != int64(i) {
							t.Errorf("%s has %d bytes, want %d", o.Key, o.Size, i)
						}
						got = append(got, o.Key)
					}
					if len(page) != size && len(next) > 0 || len(page) == 0 {
						t.Errorf("a page of %d, want %d", len(page), size)
					}
					token = next
				}
				if want := append(keys[:len(keys):len(keys)], "short"); strings.Join(got, " ") != strings.Join(want, " ") {
					t.Errorf("pages of %d: %q, want %q", size, got, want)
				}
			}
			// Delimiters that occur in the names of sidecars.
			for delimiter, want := range map[string]string{
				".": "a b. c. d/e f. g. short", ".k": "a b.k c.0123456789abcdef0123456789abcdef d/e f.k g.k short", "/": "a b.kek c.0123456789abcdef0123456789abcdef d/ f.k g.key short",
			} {
				var got []string
				list := b.List(&blob.ListOptions{Delimiter: delimiter})
				for {
					o, err := list.Next(t.Context())
					if err == io.EOF {
						break
					} else if err != nil {
						t.Fatal(err)
					}
					got = append(got, o.Key)
				}
				if strings.Join(got, " ") != want {
					t.Errorf("delimiter %q: %q, want %q", delimiter, got, want)
				}
			}
		})
	}
}

func TestReservedAndRefused(t *testing.T) {
	t.Parallel()
	b := New(memblob.OpenBucket(nil), "test", kmstest.Box(t), Options{})
	key := sidecarName("x", files.NewID())
	ctx := t.Context()
	_, attributes := b.Blob().Attributes(ctx, key)
	_, read := b.Blob().ReadAll(ctx, key)
	_, open := b.Open(ctx, key)
	for name, err := range map[string]error{
		"write": b.Blob().WriteAll(ctx, key, nil, nil), "attributes": attributes, "read": read, "open": open,
		"delete": b.Blob().Delete(ctx, key), "copy": b.Blob().Copy(ctx, key, "x", nil), "copy from": b.Blob().Copy(ctx, "x", key, nil),
	} {
		if !errors.Is(err, ErrReserved) || name != "open" && gcerrors.Code(err) != gcerrors.InvalidArgument {
			t.Errorf("%s of a sidecar: %v", name, err)
		}
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		_, err := b.Blob().SignedURL(ctx, "x", &blob.SignedURLOptions{Method: method})
		if !errors.Is(err, ErrSignedURL) || gcerrors.Code(err) != gcerrors.Unimplemented {
			t.Errorf("SignedURL for %s: %v", method, err)
		}
	}
	if _, err := b.Prune(ctx, "", time.Minute); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Prune of what is a minute old: %v", err)
	}
	if _, err := b.Rewrap(ctx, RewrapOptions{Workers: -1}); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Rewrap with -1 workers: %v", err)
	}
}

// An encryption server needs no permission to decrypt.
func TestWriteOnlyServer(t *testing.T) {
	t.Parallel()
	service := kmstest.NewService(nil)
	store := newSpy(memblob.OpenBucket(nil))
	b := Encrypt(blob.NewBucket(store), "test", service.Box(t))
	service.Set(kmstest.Fail(kmsencrypted.ErrDenied, 1).On(kmsencrypted.OpUnwrap))
	write(t, b, "x", pattern(100))
	write(t, b, "x", pattern(200))
	if _, err := b.ReadAll(t.Context(), "x"); !errors.Is(err, kmsencrypted.ErrDenied) || gcerrors.Code(err) != gcerrors.PermissionDenied {
		t.Errorf("reading: %v", err)
	}
	if ok, err := b.Exists(t.Context(), "y"); ok || err != nil {
		t.Errorf("Exists of nothing = %v, %v", ok, err)
	}
	service.Set()
	wantBytes(t, b, "x", pattern(200))

	// A refusal costs no upload.
	service.Set(kmstest.Throttle(1).On(kmsencrypted.OpWrap))
	var calls []string
	store.hear(func(op, key string) error { calls = append(calls, op); return nil })
	_, err := b.NewWriter(t.Context(), "z", &blob.WriterOptions{ContentType: "a/b"})
	if !errors.Is(err, kmsencrypted.ErrThrottled) || gcerrors.Code(err) != gcerrors.ResourceExhausted || len(calls) > 0 {
		t.Errorf("writing under throttling: %v, calls %q", err, calls)
	}
}

func TestContextOption(t *testing.T) {
	t.Parallel()
	inner := memblob.OpenBucket(nil)
	b := New(inner, "test", kmstest.Box(t), Options{Context: func(string, string) kmsencrypted.EncryptionContext {
		return kmsencrypted.Context{"bucket": "contracts"}
	}})
	write(t, b.Blob(), "x", pattern(100))
	_, sidecars := stored(t, inner)
	for from, to := range map[string]string{"x": "y", sidecars[0]: "y" + sidecars[0][1:]} {
		if err := inner.Copy(context.Background(), to, from, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantBytes(t, b.Blob(), "y", pattern(100))
}

// Copying an object onto itself gives it a new key.
func TestCopyOntoItself(t *testing.T) {
	t.Parallel()
	for name, open := range inners {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := open(t)
			b := Encrypt(inner, "test", kmstest.Box(t))
			plaintext := pattern(3_000_000)
			err := b.WriteAll(t.Context(), "x", plaintext, &blob.WriterOptions{ContentType: "image/png"})
			if err != nil {
				t.Fatal(err)
			}
			before, err := b.Attributes(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Copy(t.Context(), "x", "x", nil); err != nil {
				t.Fatal(err)
			}
			after, err := b.Attributes(t.Context(), "x")
			if err != nil || after.ETag == before.ETag || after.ContentType != "image/png" || !bytes.Equal(after.MD5, before.MD5) {
				t.Errorf("after: %+v, %v", after, err)
			}
			wantBytes(t, b, "x", plaintext)
			wantTidy(t, inner, 1)
		})
	}
}
