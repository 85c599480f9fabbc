package kmsencrypted_test

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
)

// cachingBox is a Box with a cache over a counted service.
func cachingBox(t *testing.T, cache kmsencrypted.CacheConfig, v kmsencrypted.Version) (*service, *kmsencrypted.Box) {
	t.Helper()
	s := newService(t)
	v.Provider = s
	return s, newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: v}, Cache: &cache})
}

func unwrap(t *testing.T, box *kmsencrypted.Box, c kmsencrypted.WrappedKey) kmsencrypted.DataKey {
	t.Helper()
	k, err := box.Unwrap(t.Context(), c.Column, c.Binding)
	if err != nil {
		t.Fatalf("Unwrap: %v", err)
	}
	return k
}

func (s *service) wantCalls(t *testing.T, what string, want int64) {
	t.Helper()
	if got := s.calls.Swap(0); got != want {
		t.Errorf("%s: %d calls, want %d", what, got, want)
	}
}

func TestCacheSparesCalls(t *testing.T) {
	s, box := cachingBox(t, kmsencrypted.CacheConfig{}, kmsencrypted.Version{})
	columns := wrapped(t, box, 20)
	box.UnwrapAll(t.Context(), columns[:15])
	s.wantCalls(t, "15 columns", 15)
	for i, r := range box.UnwrapAll(t.Context(), append(columns, columns...)) {
		if r.Err != nil {
			t.Errorf("column %d: %v", i, r.Err)
		}
		r.Key.Wipe()
	}
	s.wantCalls(t, "5 new columns among known ones", 5)
	unwrap(t, box, columns[3])
	s.wantCalls(t, "after all keys were wiped", 0)

	secret, err := box.Encrypt(t.Context(), []byte("token"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got, err := box.Decrypt(t.Context(), secret, nil); err != nil || string(got) != "token" {
			t.Errorf("Decrypt = %q, %v", got, err)
		}
	}
	s.wantCalls(t, "a secret three times", 1)
	if _, err := box.Decrypt(t.Context(), secret, kmsencrypted.Context{}); !errors.Is(err, kmsencrypted.ErrDecrypt) {
		t.Errorf("a cached secret under another context: %v, want ErrDecrypt", err)
	}
}

// A key from the cache opens and seals columns and does nothing else.
func TestCachedKey(t *testing.T) {
	s, box := cachingBox(t, kmsencrypted.CacheConfig{}, kmsencrypted.Version{})
	c := wrapped(t, box, 1)[0]
	first, cached := unwrap(t, box, c), unwrap(t, box, c)
	s.calls.Store(0)

	firstCipher, err := first.Cipher()
	if err != nil {
		t.Fatal(err)
	}
	cipher, err := cached.Cipher()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cipher.Open(nil, nil, firstCipher.Seal(nil, nil, []byte("x"), nil), nil); err != nil || string(got) != "x" {
		t.Errorf("the cached cipher opens %q, %v", got, err)
	}
	if !cached.Equal(first) {
		t.Error("the cached key does not equal the first")
	}
	if _, err := cached.Raw(); !errors.Is(err, kmsencrypted.ErrCached) {
		t.Errorf("Raw of a cached key: %v, want ErrCached", err)
	}
	if _, err := cached.Derive("label", 32); !errors.Is(err, kmsencrypted.ErrCached) {
		t.Errorf("Derive of a cached key: %v, want ErrCached", err)
	}
	s.wantCalls(t, "using a cached key", 0)

	fresh, err := cached.Fresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, _ := first.Raw()
	if raw, err := fresh.Raw(); err != nil || !bytes.Equal(raw, want) {
		t.Errorf("Raw of a fresh key differs from the first, %v", err)
	}
	s.wantCalls(t, "Fresh", 1)

	column, err := box.Wrap(t.Context(), cached, c.Binding)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range box.WrapAll(t.Context(), []kmsencrypted.KeyToWrap{{Key: cached, Binding: c.Binding}, {Key: first, Binding: c.Binding}}) {
		if r.Err != nil {
			t.Errorf("WrapAll, key %d: %v", i, r.Err)
		}
	}
	s.wantCalls(t, "wrapping a cached key twice", 2)
	if k := unwrap(t, box, kmsencrypted.WrappedKey{Column: column, Binding: c.Binding}); !k.Equal(first) {
		t.Error("a cached key was wrapped as another key")
	}

	s.calls.Store(0)
	if _, err := box.Rewrap(t.Context(), c.Column, c.Binding); err != nil {
		t.Fatal(err)
	}
	s.wantCalls(t, "Rewrap of a cached column", 1)

	cached.Wipe()
	for name, err := range map[string]error{
		"Raw":    second(cached.Raw()),
		"Cipher": second(cached.Cipher()),
		"Fresh":  second(cached.Fresh(t.Context())),
	} {
		if !errors.Is(err, kmsencrypted.ErrWiped) {
			t.Errorf("%s of a wiped cached key: %v, want ErrWiped", name, err)
		}
	}
	if _, err := unwrap(t, box, c).Cipher(); err != nil {
		t.Errorf("wiping a key spoiled the cache: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestFreshKeyOfItsOwn(t *testing.T) {
	k := kmsencrypted.NewDataKey()
	fresh, err := k.Fresh(t.Context())
	if err != nil || !fresh.Equal(k) {
		t.Fatalf("Fresh: %v", err)
	}
	fresh.Wipe()
	if _, err := k.Raw(); err != nil {
		t.Errorf("wiping a fresh key wiped the key it was made of: %v", err)
	}
	if _, err := (kmsencrypted.DataKey{}).Fresh(t.Context()); !errors.Is(err, kmsencrypted.ErrWiped) {
		t.Errorf("Fresh of no key: %v, want ErrWiped", err)
	}
}

func TestCacheChecksWhatTheKeyServiceChecks(t *testing.T) {
	_, box := cachingBox(t, kmsencrypted.CacheConfig{NegativeAge: time.Hour}, kmsencrypted.Version{})
	columns := wrapped(t, box, 2)
	right := columns[0]
	unwrap(t, box, right)
	for name, wrong := range map[string]struct {
		kmsencrypted.WrappedKey
		err error
	}{
		"context": {kmsencrypted.WrappedKey{Column: right.Column, Binding: kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{"0"}, Context: kmsencrypted.Context{"id": 1}}}, kmsencrypted.ErrDecrypt},
		"row":     {kmsencrypted.WrappedKey{Column: right.Column, Binding: kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{"1"}, Context: kmsencrypted.Context{"id": 0}}}, kmsencrypted.ErrBinding},
		"column":  {kmsencrypted.WrappedKey{Column: columns[1].Column, Binding: right.Binding}, kmsencrypted.ErrDecrypt},
	} {
		for _, time := range []string{"first", "second"} {
			if _, err := box.Unwrap(t.Context(), wrong.Column, wrong.Binding); !errors.Is(err, wrong.err) {
				t.Errorf("another %s, %s time: %v, want %v", name, time, err, wrong.err)
			}
		}
	}
	unwrap(t, box, right)
}

func TestCacheAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, box := cachingBox(t, kmsencrypted.CacheConfig{MaxAge: 10 * time.Second}, kmsencrypted.Version{})
		c := wrapped(t, box, 1)[0]
		for range 30 { // use does not lengthen a life
			unwrap(t, box, c)
			time.Sleep(time.Second)
		}
		s.wantCalls(t, "30 seconds", 3)
	})
}

func TestCacheUses(t *testing.T) {
	s, box := cachingBox(t, kmsencrypted.CacheConfig{MaxUses: 4}, kmsencrypted.Version{})
	c := wrapped(t, box, 1)[0]
	for range 50 {
		unwrap(t, box, c)
	}
	s.wantCalls(t, "50 times", 10)
}

func TestCacheEntries(t *testing.T) {
	s, box := cachingBox(t, kmsencrypted.CacheConfig{MaxEntries: 3}, kmsencrypted.Version{})
	columns := wrapped(t, box, 4)
	for _, i := range []int{0, 1, 2, 0, 3} { // 1 is the one not used for the longest time
		unwrap(t, box, columns[i])
	}
	s.wantCalls(t, "four columns", 4)
	for _, i := range []int{0, 2, 3} {
		unwrap(t, box, columns[i])
	}
	s.wantCalls(t, "those that stayed", 0)
	unwrap(t, box, columns[1])
	s.wantCalls(t, "the one that made room", 1)
}

func TestCacheLimitsHoldUnderLoad(t *testing.T) {
	const workers, rounds, maxUses = 8, 200, 5
	s, box := cachingBox(t, kmsencrypted.CacheConfig{MaxUses: maxUses, MaxEntries: 4}, kmsencrypted.Version{})
	columns := wrapped(t, box, 6)
	var hits atomic.Int64
	var running sync.WaitGroup
	for worker := range workers {
		running.Go(func() {
			for round := range rounds {
				c := columns[(worker+round)%len(columns)]
				k, err := box.Unwrap(t.Context(), c.Column, c.Binding)
				if err != nil {
					t.Errorf("worker %d: %v", worker, err)
					return
				}
				if _, err := k.Raw(); errors.Is(err, kmsencrypted.ErrCached) {
					hits.Add(1)
				}
				if _, err := k.Cipher(); err != nil {
					t.Errorf("worker %d: %v", worker, err)
				}
				k.Wipe()
			}
		})
	}
	running.Wait()
	if calls := s.calls.Load(); hits.Load() > maxUses*calls || hits.Load() == 0 {
		t.Errorf("%d keys from the cache after %d calls, want at most %d for each", hits.Load(), calls, maxUses)
	}
}

func TestCacheOfRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, box := cachingBox(t, kmsencrypted.CacheConfig{MaxUses: 1, NegativeAge: time.Second}, kmsencrypted.Version{})
		c := wrapped(t, box, 1)[0]
		c.Binding.Context = kmsencrypted.Context{"id": "another"}
		for range 25 {
			if _, err := box.Unwrap(t.Context(), c.Column, c.Binding); !errors.Is(err, kmsencrypted.ErrDecrypt) {
				t.Errorf("Unwrap: %v, want ErrDecrypt", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		s.wantCalls(t, "2.5 seconds of refusals", 3)

		for _, passing := range []error{kmsencrypted.ErrUnavailable, kmsencrypted.ErrThrottled, kmsencrypted.ErrDenied, errors.Join(kmsencrypted.ErrDecrypt, kmsencrypted.ErrUnavailable)} {
			s.fail = func(int64) error { return passing }
			c.Binding.Context = kmsencrypted.Context{"id": passing.Error()}
			for range 2 {
				if _, err := box.Unwrap(t.Context(), c.Column, c.Binding); !errors.Is(err, passing) && !kmsencrypted.Retryable(err) {
					t.Errorf("Unwrap: %v, want %v", err, passing)
				}
			}
			s.wantCalls(t, passing.Error(), 2)
		}
	})
}

func TestCacheIsOffByDefault(t *testing.T) {
	s := newService(t)
	box := newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: s}}})
	c := wrapped(t, box, 1)[0]
	for range 3 {
		unwrap(t, box, c)
	}
	s.wantCalls(t, "without a cache", 3)
}

func TestCacheOfOtherVersions(t *testing.T) {
	for name, c := range map[string]struct {
		version kmsencrypted.Version
		calls   int64
	}{
		"Ruby keeps the key itself":     {kmsencrypted.Version{Format: kmsencrypted.Ruby}, 1},
		"record seals need a fresh key": {kmsencrypted.Version{RecordSeal: true}, 3},
	} {
		s, box := cachingBox(t, kmsencrypted.CacheConfig{}, c.version)
		column := wrapped(t, box, 1)[0]
		if c.version.RecordSeal {
			column.Column = withSeal(t, column.Column)
		}
		for range 3 {
			if _, err := unwrap(t, box, column).Raw(); err != nil {
				t.Errorf("%s: Raw: %v", name, err)
			}
		}
		s.wantCalls(t, name, c.calls)
	}
}

func TestCacheMistakes(t *testing.T) {
	for _, c := range []kmsencrypted.CacheConfig{{MaxAge: -1}, {MaxUses: -1}, {MaxEntries: -1}, {NegativeAge: -1}} {
		_, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: newService(t)}}, Cache: &c}.Box()
		if !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%+v: %v, want ErrConfig", c, err)
		}
	}
}

// withSeal appends 32 bytes to a native key column, in the place of a record seal.
func withSeal(t *testing.T, column string) string {
	t.Helper()
	version, body, _ := keycolumn.SplitVersion(column)
	native, err := keycolumn.ParseText(body)
	if err != nil {
		t.Fatal(err)
	}
	native.Rest = make([]byte, keycolumn.SealSize)
	sealed, err := native.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return keycolumn.JoinVersion(version, sealed)
}
