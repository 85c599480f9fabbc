package kmsencrypted_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// service is a provider whose calls are counted, take time and can be made to fail.
type service struct {
	kmsencrypted.Provider
	calls, inFlight, most atomic.Int64
	latency               time.Duration
	fail                  func(call int64) error
}

func (s *service) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	call := s.calls.Add(1)
	defer s.inFlight.Add(-1)
	if now := s.inFlight.Add(1); now > s.most.Load() {
		s.most.Store(now)
	}
	select {
	case <-time.After(s.latency):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.fail != nil {
		if err := s.fail(call); err != nil {
			return nil, err
		}
	}
	return s.Provider.Decrypt(ctx, ciphertext, ec)
}

func newService(t *testing.T) *service {
	t.Helper()
	p, err := local.Create(t.TempDir() + "/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	return &service{Provider: p}
}

// wrapped makes n key columns of records 0 to n-1.
func wrapped(t *testing.T, box *kmsencrypted.Box, n int) []kmsencrypted.WrappedKey {
	t.Helper()
	columns := make([]kmsencrypted.WrappedKey, n)
	for i := range columns {
		id := fmt.Sprint(i)
		binding := kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{id}, Context: kmsencrypted.Context{"id": id}}
		column, err := box.Wrap(t.Context(), kmsencrypted.NewDataKey(), binding)
		if err != nil {
			t.Fatal(err)
		}
		columns[i] = kmsencrypted.WrappedKey{Column: column, Binding: binding}
	}
	return columns
}

func TestUnwrapAllIsBoundedAndMergesEqualColumns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t)
		s.latency = 5 * time.Millisecond
		box := newBox(t, kmsencrypted.Config{Current: 1, Concurrency: 10, Versions: map[int]kmsencrypted.Version{1: {Provider: s}}})
		columns := wrapped(t, box, 100)
		for range 50 {
			columns = append(columns, columns[0])
		}
		columns[7].Binding.ID = []string{"elsewhere"}
		start := time.Now()
		results := box.UnwrapAll(t.Context(), columns)
		if took := time.Since(start); took != 50*time.Millisecond {
			t.Errorf("took %v, want 10 rounds of 5 ms", took)
		}
		if s.calls.Load() != 100 || s.most.Load() != 10 {
			t.Errorf("%d calls, %d at once; want 100 and 10", s.calls.Load(), s.most.Load())
		}
		for i, r := range results {
			if want := i == 7; errors.Is(r.Err, kmsencrypted.ErrBinding) != want || (r.Err != nil) != want {
				t.Errorf("column %d: %v", i, r.Err)
			}
		}
	})
}

func TestUnwrapAllStopsWhereAllWouldFail(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want int64
	}{
		"denied":  {kmsencrypted.ErrDenied, 1},
		"decrypt": {kmsencrypted.ErrDecrypt, 20},
	} {
		s := newService(t)
		box := newBox(t, kmsencrypted.Config{Current: 1, Concurrency: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: s}}})
		columns := wrapped(t, box, 20)
		s.fail = func(int64) error { return c.err }
		for i, r := range box.UnwrapAll(t.Context(), columns) {
			if !errors.Is(r.Err, c.err) {
				t.Errorf("%s, column %d: %v", name, i, r.Err)
			}
		}
		if s.calls.Load() != c.want {
			t.Errorf("%s: %d calls, want %d", name, s.calls.Load(), c.want)
		}
	}
}

func TestUnwrapAllEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t)
		s.latency = time.Hour
		box := newBox(t, kmsencrypted.Config{Current: 1, Concurrency: 4, Versions: map[int]kmsencrypted.Version{1: {Provider: s}}})
		columns := wrapped(t, box, 20)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for i, r := range box.UnwrapAll(ctx, columns) {
			if !errors.Is(r.Err, context.DeadlineExceeded) {
				t.Errorf("column %d: %v, want DeadlineExceeded", i, r.Err)
			}
		}
		if s.calls.Load() != 4 {
			t.Errorf("%d calls, want the 4 that were in flight", s.calls.Load())
		}
	})
}

// batcher is a service that takes batches of 25.
type batcher struct {
	*service
	requests atomic.Int64
}

func (b *batcher) BatchSize() int { return 25 }

func (b *batcher) EncryptBatch(ctx context.Context, items []kmsencrypted.Plain) ([]kmsencrypted.Result, error) {
	b.requests.Add(1)
	results := make([]kmsencrypted.Result, len(items))
	for i, item := range items {
		results[i].Bytes, results[i].Err = b.Encrypt(ctx, item.Plaintext(), item.Context)
	}
	return results, nil
}

func (b *batcher) DecryptBatch(ctx context.Context, items []kmsencrypted.Wrapped) ([]kmsencrypted.Result, error) {
	b.requests.Add(1)
	results := make([]kmsencrypted.Result, len(items))
	for i, item := range items {
		results[i].Bytes, results[i].Err = b.Decrypt(ctx, item.Ciphertext, item.Context)
	}
	return results, nil
}

func TestBatchesMakeFewRequests(t *testing.T) {
	b := &batcher{service: newService(t)}
	box := newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: b}}})
	keys := make([]kmsencrypted.KeyToWrap, 60)
	columns := make([]kmsencrypted.WrappedKey, len(keys))
	for i := range keys {
		keys[i] = kmsencrypted.KeyToWrap{Key: kmsencrypted.NewDataKey(), Binding: kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{fmt.Sprint(i)}}}
	}
	for i, r := range box.WrapAll(t.Context(), keys) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		columns[i] = kmsencrypted.WrappedKey{Column: r.Column, Binding: keys[i].Binding}
	}
	if got := b.requests.Load(); got != 3 {
		t.Errorf("60 keys were wrapped in %d requests, want 3", got)
	}
	columns[5].Binding.ID = []string{"another"}
	for i, r := range box.UnwrapAll(t.Context(), columns) {
		if i == 5 {
			if !errors.Is(r.Err, kmsencrypted.ErrBinding) {
				t.Errorf("a moved column: %v, want ErrBinding", r.Err)
			}
			continue
		}
		if r.Err != nil || !r.Key.Equal(keys[i].Key) {
			t.Errorf("column %d: %v", i, r.Err)
		}
	}
	if got := b.requests.Load(); got != 6 {
		t.Errorf("60 keys were unwrapped in %d requests, want 3", got-3)
	}
}

func TestNativeSecrets(t *testing.T) {
	one, two := newService(t), newService(t)
	box := newBox(t, kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{1: {Provider: one}, 2: {Provider: two}}})
	ec := kmsencrypted.Context{"purpose": "webhook", "tenant": "acme"}
	for _, secret := range [][]byte{[]byte("token"), {}, bytes.Repeat([]byte("x"), 100_000)} {
		column, err := box.Encrypt(t.Context(), secret, ec)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(column, "v2:A") {
			t.Errorf("column %.10q, want v2:A…", column)
		}
		if got, err := box.Decrypt(t.Context(), column, ec); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("Decrypt: %d bytes, %v", len(got), err)
		}
		for name, other := range map[string]kmsencrypted.EncryptionContext{"none": nil, "empty": kmsencrypted.Context{}, "another": kmsencrypted.Context{"purpose": "webhook", "tenant": "evil"}} {
			if _, err := box.Decrypt(t.Context(), column, other); !errors.Is(err, kmsencrypted.ErrDecrypt) {
				t.Errorf("Decrypt under context %s: %v, want ErrDecrypt", name, err)
			}
		}
		// A secret is no data key and the other way round.
		if _, err := box.Unwrap(t.Context(), column, kmsencrypted.Binding{Context: ec, ID: []string{"1"}}); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("Unwrap of a secret: %v, want ErrMalformed", err)
		}
	}
}

func TestVersions(t *testing.T) {
	s := newService(t)
	v := kmsencrypted.Version{Provider: s}
	old := newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: v}})
	column, err := old.Encrypt(t.Context(), []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	unlisted := newBox(t, kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{2: v}})
	_, err = unlisted.Decrypt(t.Context(), column, nil)
	if e, ok := errors.AsType[*kmsencrypted.Error](err); !ok || !errors.Is(err, kmsencrypted.ErrVersionNotActive) || e.Version != 1 {
		t.Errorf("a version that is not listed: %v, want ErrVersionNotActive with number 1", err)
	}
	retired := newBox(t, kmsencrypted.Config{Current: 2, MinVersion: 2, Versions: map[int]kmsencrypted.Version{1: v, 2: v}})
	if _, err := retired.Decrypt(t.Context(), column, nil); !errors.Is(err, kmsencrypted.ErrVersionRetired) {
		t.Errorf("a retired version: %v, want ErrVersionRetired", err)
	}
	if got := fmt.Sprint(retired.Versions()); got != "[2]" {
		t.Errorf("Versions() = %s, want [2]", got)
	}
	for _, text := range []string{"v01:AAAA", "v001:AAAA", "v99999999999999999999:AAAA", "plain", ""} {
		if _, err := old.Decrypt(t.Context(), text, nil); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestConfigMistakes(t *testing.T) {
	s, insecure := newService(t), testkey.New()
	for name, c := range map[string]kmsencrypted.Config{
		"nothing listed":    {Current: 1},
		"no provider":       {Current: 1, Versions: map[int]kmsencrypted.Version{1: {}}},
		"current retired":   {Current: 1, MinVersion: 2, Versions: map[int]kmsencrypted.Version{1: {Provider: s}}},
		"negative":          {Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: s}, -1: {Provider: s}}},
		"insecure and real": {Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: s}, 2: {Provider: insecure}}},
		"seal under Ruby":   {Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: s, Format: kmsencrypted.Ruby, RecordSeal: true}}},
		"unknown format":    {Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: s, Format: 7}}},
		"bad concurrency":   {Current: 1, Concurrency: -1, Versions: map[int]kmsencrypted.Version{1: {Provider: s}}},
	} {
		if _, err := c.Box(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	allowed := kmsencrypted.Config{Current: 1, AllowInsecure: true, Versions: map[int]kmsencrypted.Version{1: {Provider: s}, 2: {Provider: insecure}}}
	if _, err := allowed.Box(); err != nil {
		t.Errorf("insecure and real, allowed: %v", err)
	}
}

func TestInsecureKeyIsLoud(t *testing.T) {
	var log bytes.Buffer
	newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: testkey.New()}}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if strings.Count(log.String(), "level=WARN") != 1 || !strings.Contains(log.String(), "insecure-test-key") {
		t.Errorf("log = %q, want one warning that names the key", log.String())
	}
}

func TestObserver(t *testing.T) {
	var log bytes.Buffer
	s := newService(t)
	box := newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: s}},
		Observer: kmsencrypted.LogEvents(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))})
	column, err := box.Encrypt(t.Context(), []byte("secret"), kmsencrypted.Context{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := box.Decrypt(t.Context(), column, kmsencrypted.Context{"a": 2}); err == nil {
		t.Fatal("another context was accepted")
	}
	for _, want := range []string{"level=DEBUG", "op=wrap", "provider=local", "version=1", `context="{\"a\":\"1\"}"`, "level=WARN", "op=unwrap", `context="{\"a\":\"2\"}"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %s:\n%s", want, log.String())
		}
	}
}

func TestContextMistakes(t *testing.T) {
	for name, ec := range map[string]kmsencrypted.EncryptionContext{
		"float":  kmsencrypted.Context{"a": 1.5},
		"nil":    kmsencrypted.Context{"a": nil},
		"bool":   kmsencrypted.Context{"a": true},
		"nested": kmsencrypted.Context{"a": kmsencrypted.Context{}},
		"bytes":  kmsencrypted.Context{"a": "\xff"},
	} {
		if _, err := kmsencrypted.Bind(ec); !errors.Is(err, kmsencrypted.ErrContext) {
			t.Errorf("%s: %v, want ErrContext", name, err)
		}
	}
}
