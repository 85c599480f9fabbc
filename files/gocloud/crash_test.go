package gocloud

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

var errCrash = errors.New("the process is dead")

// The process dies before the n-th call to the store, for every n: the object is
// what it was or what it was to be, and Prune leaves nothing behind.
func TestCrashes(t *testing.T) {
	t.Parallel()
	old, changed := pattern(40_000), pattern(50_000)
	is := func(want ...[]byte) func(t *testing.T, b *blob.Bucket) {
		return func(t *testing.T, b *blob.Bucket) {
			got, err := b.ReadAll(t.Context(), "x")
			for _, w := range want {
				if w == nil && gcerrors.Code(err) == gcerrors.NotFound || w != nil && err == nil && string(got) == string(w) {
					return
				}
			}
			t.Errorf("after the crash: %d bytes, %v", len(got), err)
		}
	}
	for name, c := range map[string]struct {
		exists bool
		do     func(t *testing.T, b *Bucket) error
		check  func(*testing.T, *blob.Bucket)
	}{
		"write":      {false, func(t *testing.T, b *Bucket) error { return b.Blob().WriteAll(t.Context(), "x", changed, nil) }, is(nil, changed)},
		"write over": {true, func(t *testing.T, b *Bucket) error { return b.Blob().WriteAll(t.Context(), "x", changed, nil) }, is(old, changed)},
		"delete":     {true, func(t *testing.T, b *Bucket) error { return b.Blob().Delete(t.Context(), "x") }, is(old, nil)},
		"copy":       {false, func(t *testing.T, b *Bucket) error { return b.Blob().Copy(t.Context(), "x", "z", nil) }, is(nil, changed)},
		"copy over":  {true, func(t *testing.T, b *Bucket) error { return b.Blob().Copy(t.Context(), "x", "z", nil) }, is(old, changed)},
		"rewrap": {true, func(t *testing.T, b *Bucket) error {
			_, err := b.Rewrap(t.Context(), RewrapOptions{Workers: 1})
			return err
		}, is(old)},
		"prune": {true, func(t *testing.T, b *Bucket) error {
			_, err := b.prune(t.Context(), "", time.Now().Add(time.Hour))
			return err
		}, is(old)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 0; ; n++ {
				store := newSpy(memblob.OpenBucket(nil))
				before := New(blob.NewBucket(store), "test", boxes(t, 1), Options{})
				b := New(blob.NewBucket(store), "test", boxes(t, 2), Options{})
				write(t, before.Blob(), "z", changed)
				if c.exists {
					write(t, before.Blob(), "x", old)
				}
				calls := 0
				store.hear(func(string, string) error {
					if calls++; calls > n {
						return errCrash
					}
					return nil
				})
				err := c.do(t, b)
				store.hear(func(string, string) error { return nil })
				c.check(t, b.Blob())
				wantBytes(t, b.Blob(), "z", changed)
				objects, _ := stored(t, store.Bucket)
				if calls <= n {
					wantTidy(t, store.Bucket, len(objects))
				}
				if _, err := b.prune(t.Context(), "", time.Now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
				c.check(t, b.Blob())
				wantTidy(t, store.Bucket, len(objects))
				if calls <= n {
					if err != nil || n < 3 {
						t.Errorf("undisturbed, after %d calls: %v", n, err)
					}
					return
				}
			}
		})
	}
}

// boxes opens versions 1 and 2 and writes the given one.
func boxes(t testing.TB, current int) *kmsencrypted.Box {
	t.Helper()
	provider := kmstest.NewService(nil).Provider()
	box, err := kmsencrypted.Config{
		Current: current, Versions: map[int]kmsencrypted.Version{1: {Provider: provider}, 2: {Provider: provider}},
	}.Box()
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// Under concurrent operations, every object that exists opens.
func TestRaces(t *testing.T) {
	t.Parallel()
	inner := memblob.OpenBucket(nil)
	first, second := New(inner, "test", boxes(t, 1), Options{}), New(inner, "test", boxes(t, 2), Options{})
	keys := []string{"x", "y"}
	for _, key := range keys {
		write(t, first.Blob(), key, []byte("start of "+key))
	}
	ctx := t.Context()
	deadline := time.Now().Add(700 * time.Millisecond)
	// Everybody may meet an object that is being changed by another.
	may := func(what string, err error) {
		if err != nil && gcerrors.Code(err) != gcerrors.NotFound && !errors.Is(err, ErrReplaced) && !errors.Is(err, errRaced) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var wait sync.WaitGroup
	again := func(f func(b *Bucket, key, other string, i int)) {
		for _, b := range []*Bucket{first, second} {
			wait.Go(func() {
				for i := 0; time.Now().Before(deadline); i++ {
					f(b, keys[i%2], keys[(i+1)%2], i)
				}
			})
		}
	}
	again(func(b *Bucket, key, _ string, i int) {
		may("write", b.Blob().WriteAll(ctx, key, fmt.Appendf(nil, "%s %d", key, i), nil))
	})
	again(func(b *Bucket, key, other string, _ int) { may("copy", b.Blob().Copy(ctx, key, other, nil)) })
	again(func(b *Bucket, key, _ string, i int) {
		if i%5 == 0 {
			may("delete", b.Blob().Delete(ctx, key))
		}
		time.Sleep(time.Millisecond)
	})
	again(func(b *Bucket, _, _ string, _ int) {
		result, err := b.Rewrap(ctx, RewrapOptions{})
		may("rewrap", err)
		for _, f := range result.Failures {
			may("rewrap of "+f.Key, f.Err)
		}
	})
	again(func(b *Bucket, key, _ string, _ int) {
		r, err := b.Blob().NewReader(ctx, key, nil)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		may("read", err)
	})
	wait.Wait()
	objects, sidecars := stored(t, inner)
	for _, key := range objects {
		if got, err := second.Blob().ReadAll(ctx, key); err != nil || len(got) == 0 {
			t.Errorf("%s = %q, %v, with sidecars %q", key, got, err, sidecars)
		}
	}
	if _, err := second.prune(ctx, "", time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	wantTidy(t, inner, len(objects))
}

func TestIfNotExist(t *testing.T) {
	t.Parallel()
	inner := memblob.OpenBucket(nil)
	b := Encrypt(inner, "test", kmstest.Box(t))
	write(t, b, "x", pattern(100))
	err := b.WriteAll(t.Context(), "x", pattern(200), &blob.WriterOptions{IfNotExist: true})
	if gcerrors.Code(err) != gcerrors.FailedPrecondition {
		t.Errorf("writing what exists: %v", err)
	}
	wantBytes(t, b, "x", pattern(100))
	wantTidy(t, inner, 1)
}
