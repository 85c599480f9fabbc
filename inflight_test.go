package kmsencrypted_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// slowBox is a Box over a service whose calls take a second.
func slowBox(t *testing.T) (*service, *kmsencrypted.Box) {
	s := newService(t)
	s.latency = time.Second
	return s, newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: s}}})
}

func TestEqualUnwrapsInFlightAreOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, box := slowBox(t)
		columns := wrapped(t, box, 2)
		keys := make([]kmsencrypted.DataKey, 8)
		var callers sync.WaitGroup
		for i := range keys {
			callers.Go(func() {
				var err error
				if i%2 == 0 {
					keys[i], err = box.Unwrap(t.Context(), columns[0].Column, columns[0].Binding)
				} else {
					results := box.UnwrapAll(t.Context(), columns)
					keys[i], err = results[0].Key, errors.Join(results[0].Err, results[1].Err)
				}
				if err != nil {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		callers.Wait()
		if s.calls.Load() != 2 {
			t.Errorf("%d calls for two columns, want 2", s.calls.Load())
		}
		keys[0].Wipe()
		for i, k := range keys[1:] {
			if raw, err := k.Raw(); err != nil || len(raw) != kmsencrypted.DataKeySize || !k.Equal(keys[1]) {
				t.Errorf("key of caller %d after another wiped its own: %v", i+1, err)
			}
		}
	})
}

func TestUnwrapsThatDifferAreNotMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, box := slowBox(t)
		c := wrapped(t, box, 1)[0]
		otherContext, otherRow, otherTable := c.Binding, c.Binding, c.Binding
		otherContext.Context = kmsencrypted.Context{"id": "1"}
		otherRow.ID = []string{"1"}
		otherTable.Table = "u"
		want := []struct {
			binding kmsencrypted.Binding
			err     error
		}{
			{c.Binding, nil}, {otherContext, kmsencrypted.ErrDecrypt}, {otherRow, kmsencrypted.ErrBinding}, {otherTable, kmsencrypted.ErrBinding},
		}
		var callers sync.WaitGroup
		for _, w := range want {
			callers.Go(func() {
				if _, err := box.Unwrap(t.Context(), c.Column, w.binding); !errors.Is(err, w.err) {
					t.Errorf("Unwrap under %+v: %v, want %v", w.binding, err, w.err)
				}
			})
		}
		callers.Wait()
		if s.calls.Load() != 4 {
			t.Errorf("%d calls, want one for each binding", s.calls.Load())
		}
	})
}

// Before kms_encrypted 1.0 a number and its text were different contexts.
func TestLegacyContextsThatDifferInTypeAreNotMerged(t *testing.T) {
	provider := testkey.New()
	box := newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: provider, Format: kmsencrypted.Ruby}}})
	sent, err := kmsencrypted.Bind(kmsencrypted.TextContext(`{"id":7}`))
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := provider.Encrypt(t.Context(), make([]byte, kmsencrypted.DataKeySize), sent)
	if err != nil {
		t.Fatal(err)
	}
	column := base64.StdEncoding.EncodeToString(ciphertext)
	results := box.UnwrapAll(t.Context(), []kmsencrypted.WrappedKey{
		{Column: column, Binding: kmsencrypted.Binding{Context: kmsencrypted.Context{"id": 7}}},
		{Column: column, Binding: kmsencrypted.Binding{Context: kmsencrypted.Context{"id": "7"}}},
	})
	if results[0].Err != nil {
		t.Errorf("under the number: %v", results[0].Err)
	}
	if !errors.Is(results[1].Err, kmsencrypted.ErrDecrypt) {
		t.Errorf("under its text: %v, want ErrDecrypt", results[1].Err)
	}
}

func TestCallerThatLeavesDisturbsNobody(t *testing.T) {
	for _, leaver := range []int{0, 1} { // the one whose call it is, and one who joined
		t.Run(fmt.Sprint("caller ", leaver), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, box := slowBox(t)
				c := wrapped(t, box, 1)[0]
				start := time.Now()
				var callers sync.WaitGroup
				for i := range 4 {
					callers.Go(func() {
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						if i == leaver {
							time.AfterFunc(100*time.Millisecond, cancel)
						}
						k, err := box.Unwrap(ctx, c.Column, c.Binding)
						took := time.Since(start)
						if i == leaver && (!errors.Is(err, context.Canceled) || took != 100*time.Millisecond || !k.IsZero()) {
							t.Errorf("who leaves after 100 ms: %v after %v", err, took)
						}
						if i != leaver && (err != nil || took != time.Second) {
							t.Errorf("who stays: %v after %v, want the key after a second", err, took)
						}
					})
					synctest.Wait()
				}
				callers.Wait()
				if s.calls.Load() != 1 {
					t.Errorf("%d calls, want 1", s.calls.Load())
				}
			})
		})
	}
}

func TestCallThatNobodyWaitsForIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, box := slowBox(t)
		columns := wrapped(t, box, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				if r := box.UnwrapAll(ctx, columns)[0]; !errors.Is(r.Err, context.DeadlineExceeded) {
					t.Errorf("past the deadline: %v", r.Err)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if n := s.inFlight.Load(); n != 0 {
			t.Errorf("%d calls go on for nobody", n)
		}
		if r := box.UnwrapAll(t.Context(), columns)[0]; r.Err != nil {
			t.Errorf("afterwards: %v", r.Err)
		}
		if s.calls.Load() != 2 {
			t.Errorf("%d calls, want the one given up and one more", s.calls.Load())
		}
	})
}

// A batch goes on for the one column that somebody else waits for.
func TestBatchesShareCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batcher{service: newService(t)}
		box := newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: b}}})
		columns := wrapped(t, box, 10)
		b.latency = time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var callers sync.WaitGroup
		callers.Go(func() {
			for i, r := range box.UnwrapAll(ctx, columns[:6]) {
				if !errors.Is(r.Err, context.DeadlineExceeded) {
					t.Errorf("column %d of who left: %v", i, r.Err)
				}
			}
		})
		synctest.Wait()
		for i, r := range box.UnwrapAll(t.Context(), columns[4:]) {
			if r.Err != nil {
				t.Errorf("column %d of who stayed: %v", i+4, r.Err)
			}
		}
		callers.Wait()
		if b.requests.Load() != 2 || b.calls.Load() != 10 {
			t.Errorf("%d requests for %d items, want 2 for 10", b.requests.Load(), b.calls.Load())
		}
	})
}

// Fifty requests of a program for one record are one call.
func TestFiftyEqualUnwrapsAreOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, box := slowBox(t)
		c := wrapped(t, box, 1)[0]
		start := time.Now()
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				k, err := box.Unwrap(t.Context(), c.Column, c.Binding)
				if err != nil {
					t.Error(err)
				}
				k.Wipe()
			})
		}
		callers.Wait()
		if s.calls.Load() != 1 || time.Since(start) != time.Second {
			t.Errorf("%d calls in %v, want 1 in a second", s.calls.Load(), time.Since(start))
		}
	})
}
