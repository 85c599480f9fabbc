package kmsencrypted

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What leaves the cache is wiped, and nothing stays in it past its age although
// nobody asks for it.
func TestCacheWipes(t *testing.T) {
	for _, format := range []Format{Native, Ruby} {
		t.Run(format.String(), func(t *testing.T) {
			keys := []DataKey{NewDataKey(), NewDataKey(), NewDataKey()} // FIPS 140 takes its first random bytes in real time
			synctest.Test(t, func(t *testing.T) {
				b := &Box{cache: newCache(CacheConfig{MaxAge: time.Minute, MaxEntries: 2})}
				columns := make([]*unwrapping, 3)
				entries := make([]*cacheEntry, len(columns))
				for i := range columns {
					columns[i] = &unwrapping{column: fmt.Sprint("v1:", i), contexts: []BoundContext{{}}, recipe: Version{Format: format}}
					b.remember(columns[i], KeyResult{Key: keys[i]})
					entries[i] = b.cache.recent.Front().Value.(*cacheEntry)
				}
				inUse, ok := b.cached(t.Context(), columns[2])
				if !ok {
					t.Fatal("a new key is not in the cache")
				}
				wiped := func(e *cacheEntry) bool {
					b.cache.mu.Lock()
					defer b.cache.mu.Unlock()
					m := e.whole.hidden.Get()
					return e.columns == nil && (m == nil || m.wiped && m.raw == [DataKeySize]byte{})
				}
				if !wiped(entries[0]) || wiped(entries[1]) || wiped(entries[2]) {
					t.Error("the key that made room, and no other, is to be wiped")
				}
				time.Sleep(time.Minute + time.Minute/8)
				synctest.Wait()
				if !wiped(entries[1]) || !wiped(entries[2]) || len(b.cache.entries)+b.cache.recent.Len() != 0 {
					t.Error("keys are in memory past their age")
				}
				if _, err := inUse.Key.Cipher(); err != nil {
					t.Errorf("a key in use: %v", err)
				}
				if b.cache.sweeper != nil {
					t.Error("an empty cache goes on sweeping")
				}
			})
		})
	}
}

// The cache never exceeds its limit, even with many goroutines.
func TestCacheIsBoundedUnderLoad(t *testing.T) {
	const workers, rounds, most = 8, 500, 16
	b := &Box{cache: newCache(CacheConfig{MaxAge: time.Hour, MaxEntries: most, NegativeAge: time.Hour})}
	bounded := func() {
		b.cache.mu.Lock()
		defer b.cache.mu.Unlock()
		if entries, recent := len(b.cache.entries), b.cache.recent.Len(); entries > most || entries != recent {
			t.Errorf("%d entries, %d in order of use, want at most %d", entries, recent, most)
		}
	}
	var running sync.WaitGroup
	for worker := range workers {
		running.Go(func() {
			for round := range rounds {
				u := &unwrapping{column: fmt.Sprint("v1:", worker%2, "-", round), contexts: []BoundContext{{}}}
				result := KeyResult{Key: NewDataKey()}
				if round%3 == 0 {
					result = KeyResult{Err: ErrDecrypt}
				}
				b.cached(t.Context(), u)
				b.remember(u, result)
				bounded()
			}
		})
	}
	running.Wait()
	if n := len(b.cache.entries); n != most {
		t.Errorf("%d entries at the end, want a full cache of %d", n, most)
	}
	b.cache.sweeper.Stop()
}
