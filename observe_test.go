package kmsencrypted_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
)

func TestObserverMasked(t *testing.T) {
	var log bytes.Buffer
	whole := kmsencrypted.LogEvents(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	kind := func(ec kmsencrypted.BoundContext) string {
		pairs, err := ec.Map()
		if err != nil {
			return ""
		}
		return pairs["model_name"]
	}
	box := newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: newService(t)}}, Observer: whole.Masked(kind)})
	ec := kmsencrypted.Context{"model_name": "User", "model_id": "4711"}
	column, err := box.Encrypt(t.Context(), []byte("x"), ec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := box.Decrypt(t.Context(), column, ec); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Count(text, "context=User ") != 2 || strings.Contains(text, "4711") {
		t.Errorf("log = %s, want the kind of record and no id", text)
	}
}

// TestObserverSeesAttempts: through a guard, and through several providers, where
// the Box's observer sees the sum.
func TestObserverSeesAttempts(t *testing.T) {
	var mu sync.Mutex // several providers are called at once
	var events, each []kmsencrypted.Event
	note := func(to *[]kmsencrypted.Event) kmsencrypted.Observer {
		return func(_ context.Context, e kmsencrypted.Event) {
			mu.Lock()
			defer mu.Unlock()
			*to = append(*to, e)
		}
	}
	first, second := kmstest.NewService(nil), kmstest.NewService(nil)
	several := multi.New([]kmsencrypted.Provider{
		guard.New(first.Provider(), guard.Options{Attempts: 4, Backoff: time.Nanosecond}),
		guard.New(second.Provider(), guard.Options{Attempts: 4, Backoff: time.Nanosecond}),
	}, multi.Options{Tags: []string{"a", "b"}, Observer: note(&each)})
	box := newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: several}}, Observer: note(&events)})
	column, err := box.Encrypt(t.Context(), []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	events, each = nil, nil
	first.Set(kmstest.Throttle(1))
	if _, err := box.Decrypt(t.Context(), column, nil); err != nil {
		t.Fatal(err)
	}
	if len(events) != 1 || events[0].Attempts != 5 || events[0].Err != nil {
		t.Errorf("the Box's observer sees %+v, want a request in five attempts", events)
	}
	if len(each) != 2 || each[0].Attempts != 4 || !errors.Is(each[0].Err, kmsencrypted.ErrThrottled) || each[1].Attempts != 1 || each[1].Err != nil {
		t.Errorf("the observer of several providers sees %+v, want four attempts in vain and one", each)
	}
	// Without an observer there is nobody to tell.
	kmsencrypted.Attempted(t.Context())
	kmsencrypted.UsedKeyVersion(t.Context(), "1")
}
