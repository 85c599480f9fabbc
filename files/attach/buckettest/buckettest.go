// Package buckettest tests implementations of [attach.Bucket]. Call [Run] from a
// test of your own.
package buckettest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// Run checks what [attach.Bucket] promises. It writes objects under random names,
// about 3 MiB, or 9 MiB if the bucket is an [attach.PartBucket], and removes them again.
func Run(t *testing.T, bucket attach.Bucket) {
	for name, test := range map[string]func(*testing.T, attach.Bucket){
		"round trip": roundTrip, "missing": missing, "failing source": failingSource, "canceled": canceled,
		"concurrent": concurrent, "delete": deleted, "list": listed, "parts": inParts,
	} {
		t.Run(name, func(t *testing.T) { test(t, bucket) })
	}
}

// name returns a name as package attach makes it, and removes the object when the
// test ends.
func name(t *testing.T, bucket attach.Bucket) string {
	n := strings.ToLower(rand.Text())
	t.Cleanup(func() { bucket.Delete(context.WithoutCancel(t.Context()), n) })
	return n
}

func put(ctx context.Context, bucket attach.Bucket, name string, object []byte) error {
	return bucket.Put(ctx, name, func(w io.Writer) error {
		for len(object) > 0 { // in pieces of odd sizes
			n := min(len(object), 70_001)
			if _, err := w.Write(object[:n]); err != nil {
				return err
			}
			object = object[n:]
		}
		return nil
	})
}

func roundTrip(t *testing.T, bucket attach.Bucket) {
	for _, size := range []int{0, 1, 1 << 16, 1<<20 + 7} {
		object := make([]byte, size)
		rand.Read(object)
		n := name(t, bucket)
		if err := put(t.Context(), bucket, n, object); err != nil {
			t.Fatal(err)
		}
		o, err := bucket.Open(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		if o.Size() != int64(size) {
			t.Errorf("Size() = %d, want %d", o.Size(), size)
		}
		if got, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size())); err != nil || !bytes.Equal(got, object) {
			t.Errorf("object of %d bytes = %d bytes, %v", size, len(got), err)
		}
		p := make([]byte, 100)
		for _, at := range []int{0, size / 3, max(0, size-100), max(0, size-3), size, size + 5} {
			want := object[min(at, size):min(at+len(p), size)]
			got, err := o.ReadAt(p, int64(at))
			if !bytes.Equal(p[:got], want) || got < len(p) && err != io.EOF || got == len(p) && err != nil && err != io.EOF {
				t.Errorf("ReadAt(100 bytes, %d) of %d = %d, %v", at, size, got, err)
			}
		}
	}
}

// listed checks a bucket that can list its objects.
func listed(t *testing.T, bucket attach.Bucket) {
	lister, ok := bucket.(attach.Lister)
	if !ok {
		t.Skip("the bucket cannot list its objects")
	}
	n := name(t, bucket)
	list := func() (found int) {
		for object, err := range lister.List(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(object, n) {
				found++
			}
		}
		return found
	}
	const many = 30
	for i := range many {
		object := fmt.Sprint(n, i, attach.SidecarSuffix)
		if i%2 == 0 {
			object = fmt.Sprint(n, "/variants/", i) // as Active Storage names them
		}
		t.Cleanup(func() { bucket.Delete(context.WithoutCancel(t.Context()), object) })
		if err := put(t.Context(), bucket, object, []byte("object")); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(); got != many {
		t.Errorf("List has %d objects, want %d", got, many)
	}
	for range lister.List(t.Context()) {
		break
	}
	if err := bucket.Delete(t.Context(), fmt.Sprint(n, 1, attach.SidecarSuffix)); err != nil {
		t.Fatal(err)
	}
	if got := list(); got != many-1 {
		t.Errorf("List has %d objects after one was deleted, want %d", got, many-1)
	}
}

func missing(t *testing.T, bucket attach.Bucket) {
	n := name(t, bucket)
	if _, err := bucket.Open(t.Context(), n); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of no object = %v, want fs.ErrNotExist", err)
	}
	if err := bucket.Delete(t.Context(), n); err != nil {
		t.Errorf("Delete of no object = %v", err)
	}
}

// failingSource checks that a source that fails leaves no object, however much it
// gave before.
func failingSource(t *testing.T, bucket attach.Bucket) {
	broken := errors.New("source is broken")
	for _, before := range []int{0, 1000, 1 << 20} {
		n := name(t, bucket)
		err := bucket.Put(t.Context(), n, func(w io.Writer) error {
			if _, err := w.Write(make([]byte, before)); err != nil {
				return err
			}
			return broken
		})
		if !errors.Is(err, broken) {
			t.Errorf("Put with a source that fails after %d bytes = %v", before, err)
		}
		if _, err := bucket.Open(t.Context(), n); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after a failed Put, Open = %v, want fs.ErrNotExist", err)
		}
		if err := put(t.Context(), bucket, n, []byte("again")); err != nil {
			t.Errorf("Put after a failed one = %v", err)
		}
	}
}

func canceled(t *testing.T, bucket attach.Bucket) {
	ctx, cancel := context.WithCancel(t.Context())
	n := name(t, bucket)
	err := bucket.Put(ctx, n, func(w io.Writer) error {
		if _, err := w.Write(make([]byte, 1000)); err != nil {
			return err
		}
		cancel()
		for range 1000 {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Put under a context that was canceled = %v", err)
	}
	if _, err := bucket.Open(t.Context(), n); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a canceled Put, Open = %v, want fs.ErrNotExist", err)
	}
}

func concurrent(t *testing.T, bucket attach.Bucket) {
	var names [8]string
	var objects [8][]byte
	for i := range names {
		names[i], objects[i] = name(t, bucket), bytes.Repeat([]byte{byte(i)}, 100_000)
	}
	var all sync.WaitGroup
	for i := range names {
		all.Go(func() {
			if err := put(t.Context(), bucket, names[i], objects[i]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	o, err := bucket.Open(t.Context(), names[3])
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for range 8 {
		all.Go(func() {
			p := make([]byte, 1000)
			if n, err := o.ReadAt(p, 50_000); n != len(p) || !bytes.Equal(p, objects[3][:1000]) {
				t.Errorf("ReadAt = %d, %v", n, err)
			}
		})
	}
	all.Wait()
}

func deleted(t *testing.T, bucket attach.Bucket) {
	n := name(t, bucket)
	if err := put(t.Context(), bucket, n, []byte("object")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := bucket.Delete(t.Context(), n); err != nil {
			t.Errorf("Delete = %v", err)
		}
	}
	for range 20 { // a store may take a moment
		if _, err := bucket.Open(t.Context(), n); errors.Is(err, fs.ErrNotExist) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("an object that was deleted is still there")
}
