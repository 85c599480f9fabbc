package gocloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func TestRewrap(t *testing.T) {
	t.Parallel()
	store := newSpy(memblob.OpenBucket(nil))
	inner := blob.NewBucket(store)
	from, to := New(inner, "test", boxes(t, 1), Options{}), New(inner, "test", boxes(t, 2), Options{})
	const n = 30
	var objects [][]byte
	for i := range n {
		key := fmt.Sprintf("a/%02d", i)
		err := from.Blob().WriteAll(t.Context(), key, pattern(1000*i), &blob.WriterOptions{Metadata: map[string]string{"i": key}})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := inner.ReadAll(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, raw)
	}
	write(t, from.Blob(), "b", pattern(5))
	found := func(want map[int]int64) {
		t.Helper()
		r, err := to.Rewrap(t.Context(), RewrapOptions{DryRun: true})
		if err != nil || !maps.Equal(r.Found, want) || r.Rewrapped != 0 {
			t.Errorf("dry run = %+v, %v, want %v", r, err, want)
		}
	}
	found(map[int]int64{1: n + 1})

	// Stopped half-way, it goes on from there.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	_, err := to.Rewrap(ctx, RewrapOptions{Workers: 1, Progress: func(done, total int64) {
		if total != n+1 {
			t.Errorf("total = %d", total)
		}
		if done == 10 {
			stop()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	// No object is written, or read but for its header.
	store.hear(func(op, key string) error {
		if _, _, sidecar := splitSidecar(key); op != "list" && op != "read" && !sidecar {
			t.Errorf("%s of %s", op, key)
		}
		return nil
	})
	var last int64
	result, err := to.Rewrap(t.Context(), RewrapOptions{Prefix: "a/", Progress: func(done, total int64) {
		if done != last+1 || total != n {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	}})
	store.hear(func(string, string) error { return nil })
	if err != nil || last != n || result.Failed != 0 || result.Rewrapped != result.Found[1] || result.Found[1]+result.Found[2] != n || result.Found[2] < 10 {
		t.Errorf("Rewrap = %+v, %v", result, err)
	}
	found(map[int]int64{1: 1, 2: n})
	for i := range n {
		key := fmt.Sprintf("a/%02d", i)
		if raw, err := inner.ReadAll(t.Context(), key); err != nil || !bytes.Equal(raw, objects[i]) {
			t.Errorf("%s was changed: %v", key, err)
		}
		a, err := to.Blob().Attributes(t.Context(), key)
		if err != nil || a.Metadata["i"] != key || a.MD5 == nil {
			t.Errorf("%s has lost its attributes: %+v, %v", key, a, err)
		}
		wantBytes(t, to.Blob(), key, pattern(1000*i))
	}
}

func TestRewrapFailures(t *testing.T) {
	t.Parallel()
	inner := memblob.OpenBucket(nil)
	from := New(inner, "test", boxes(t, 1), Options{})
	for i := range 5 {
		write(t, from.Blob(), fmt.Sprint(i), pattern(10))
	}
	_, sidecars := stored(t, inner)
	write(t, inner, sidecars[2], []byte("kek2:v1:AAAA"))
	to := New(inner, "test", boxes(t, 2), Options{})
	result, err := to.Rewrap(t.Context(), RewrapOptions{})
	if err != nil || result.Rewrapped != 4 || result.Failed != 1 || len(result.Failures) != 1 || result.Failures[0].Key != "2" || !errors.Is(result.Failures[0].Err, kmsencrypted.ErrMalformed) {
		t.Errorf("Rewrap = %+v, %v", result, err)
	}

	service := kmstest.NewService(nil)
	box, err := kmsencrypted.Config{Current: 3, Versions: map[int]kmsencrypted.Version{1: {Provider: service.Provider()}, 2: {Provider: service.Provider()}, 3: {Provider: service.Provider()}}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	service.Set(kmstest.Fail(kmsencrypted.ErrDenied, 1))
	result, err = New(inner, "test", box, Options{}).Rewrap(t.Context(), RewrapOptions{Workers: 1})
	if !errors.Is(err, kmsencrypted.ErrDenied) || result.Rewrapped != 0 || result.Failed > 2 {
		t.Errorf("Rewrap without permission = %+v, %v", result, err)
	}
	for i := range 5 {
		if i != 2 {
			wantBytes(t, to.Blob(), fmt.Sprint(i), pattern(10))
		}
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	inner := memblob.OpenBucket(nil)
	b := New(inner, "test", kmstest.Box(t), Options{})
	for _, key := range []string{"kept", "gone", "damaged", "replaced"} {
		write(t, b.Blob(), key, pattern(10))
	}
	if err := inner.Delete(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	write(t, inner, "damaged", []byte("\x89KEF"))
	other, err := inner.ReadAll(t.Context(), "kept")
	if err != nil {
		t.Fatal(err)
	}
	write(t, inner, "replaced", other)
	for _, c := range []struct {
		prefix string
		before time.Time
		want   int64
	}{{"", time.Now().Add(-time.Hour), 0}, {"x", time.Now().Add(time.Hour), 0}, {"", time.Now().Add(time.Hour), 2}} {
		if n, err := b.prune(t.Context(), c.prefix, c.before); n != c.want || err != nil {
			t.Errorf("prune(%q, %v) = %d, %v, want %d", c.prefix, c.before, n, err, c.want)
		}
	}
	if n, err := b.Prune(t.Context(), "", time.Hour); n != 0 || err != nil {
		t.Errorf("Prune = %d, %v", n, err)
	}
	if _, sidecars := stored(t, inner); len(sidecars) != 2 {
		t.Errorf("left are %q", sidecars)
	}
	wantBytes(t, b.Blob(), "kept", pattern(10))
}
