package kmsencrypted

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

// CacheConfig configures a cache of data keys.
//
// The cache weakens the audit trail. A decryption from the cache makes no call,
// so the key service's log has no line for it. After a permission was revoked or
// a key disabled, keys in the cache still open for up to MaxAge. Do not use it if
// every read must be logged.
//
// A key is found only under the column, version, context, table, primary key and
// so on that it was unwrapped for, so the cache bypasses no check. Under a native
// version it keeps the ready cipher, not the bytes of the key. Keys from the
// cache open and seal columns; everything else needs a [DataKey.Fresh] one. Under
// a Ruby version, whose columns are sealed with the data key itself, it keeps the
// key. Versions with [Version.RecordSeal] are not cached, because their seals
// need the bytes.
//
// A rotation reads every record once; give it a Box without a cache.
type CacheConfig struct {
	// MaxAge is how long a key is used after it was unwrapped. 0 means one minute.
	// Then it is wiped, within an eighth of MaxAge, unless StaleFor keeps it.
	MaxAge time.Duration
	// StaleFor is for how much longer it is used while the key service is unavailable or
	// throttles: an outage that is shorter stops nobody who has read the record before. It
	// is asked again every MaxAge/8, at most 5 seconds. A refusal of any kind ends that at once. 0
	// means not at all. A revocation takes effect within MaxAge, or if the service is away
	// just then within MaxAge and StaleFor.
	StaleFor time.Duration
	// RefreshAhead is for how long before it expires a key in use is unwrapped again in the
	// background, so that who reads a record all the time never waits for the key service. It
	// must be less than MaxAge. 0 means not at all.
	RefreshAhead time.Duration
	// MaxUses is how often a key is used from the cache before it is unwrapped
	// again. 0 means no limit.
	MaxUses int
	// MaxEntries limits the cache, at about 1 KiB per entry. A full cache removes
	// the key that was not used for the longest time. 0 means 1000.
	MaxEntries int
	// NegativeAge is how long the refusal of a column, [ErrDecrypt] or [ErrBinding],
	// is kept, to save repeated requests for a column that does not open. Other
	// errors are never kept. 0 means that refusals are not kept.
	NegativeAge time.Duration
}

// Defaults of [CacheConfig].
const (
	defaultMaxAge     = time.Minute
	defaultMaxEntries = 1000
)

func (c CacheConfig) check(mistake func(string, ...any)) {
	if c.MaxAge < 0 || c.StaleFor < 0 || c.RefreshAhead < 0 || c.MaxUses < 0 || c.MaxEntries < 0 || c.NegativeAge < 0 {
		mistake("negative limit in Cache")
	}
	if c.RefreshAhead >= cmp.Or(c.MaxAge, defaultMaxAge) {
		mistake("Cache.RefreshAhead is not less than MaxAge")
	}
}

// cache holds the results of unwrapping.
type cache struct {
	config CacheConfig

	mu      sync.Mutex
	entries map[cacheID]*list.Element
	recent  list.List // of *cacheEntry, the last used in front
	sweeper *time.Timer

	refreshes chan struct{} // has room for those that run
}

// cacheID is [unwrapping.identity] with a hash of the text, so that the size of
// an entry does not depend on the column.
type cacheID struct {
	route route
	hash  [sha256.Size]byte
}

func (u *unwrapping) cacheID() cacheID {
	return cacheID{u.route(), sha256.Sum256(u.appendText(make([]byte, 0, usualIdentity)))}
}

type cacheEntry struct {
	id      cacheID
	columns *recordKeys // of a native key
	whole   DataKey     // of a Ruby key
	err     error       // of a refusal
	uses    int
	expires time.Time // from then on the key service is asked
	dies    time.Time // from then on it is not used even if the service is away
	retry   time.Time // until then it is not asked again
	asked   bool      // ahead of time
}

// usable reports whether an entry may be used without asking the key service.
func (e *cacheEntry) usable(now time.Time) bool {
	return now.Before(e.expires) || now.Before(e.retry) && now.Before(e.dies)
}

func newCache(config CacheConfig) *cache {
	if config.MaxAge == 0 {
		config.MaxAge = defaultMaxAge
	}
	if config.MaxEntries == 0 {
		config.MaxEntries = defaultMaxEntries
	}
	return &cache{config: config, entries: make(map[cacheID]*list.Element), refreshes: make(chan struct{}, refreshesAtOnce)}
}

// cached looks up a column. The caller must wipe the key.
func (b *Box) cached(ctx context.Context, u *unwrapping) (KeyResult, bool) {
	if b.cache == nil || u.recipe.RecordSeal {
		return KeyResult{}, false
	}
	c, id := b.cache, u.cacheID()
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[id]
	if !ok {
		return KeyResult{}, false
	}
	e, now := element.Value.(*cacheEntry), time.Now()
	if !e.usable(now) {
		if !now.Before(e.dies) {
			c.remove(element)
		}
		return KeyResult{}, false
	}
	c.recent.MoveToFront(element)
	if c.due(e, now) {
		e.asked = b.refresh(ctx, u, e.expires)
	}
	result := e.result(u)
	if e.uses++; e.uses == c.config.MaxUses && e.err == nil {
		c.remove(element)
	}
	return result, true
}

func (e *cacheEntry) result(u *unwrapping) KeyResult {
	switch {
	case e.err != nil:
		return KeyResult{Err: e.err}
	case e.columns != nil:
		return KeyResult{Key: columnsKey(e.columns, u)}
	}
	return KeyResult{Key: e.whole.clone()}
}

// remember stores a result if it may be cached.
func (b *Box) remember(u *unwrapping, result KeyResult) {
	if b.cache == nil || u.recipe.RecordSeal {
		return
	}
	e := &cacheEntry{id: u.cacheID(), err: result.Err}
	age := b.cache.config.MaxAge
	switch {
	case isRefusal(result.Err):
		age = b.cache.config.NegativeAge
	case result.Err != nil:
		b.cache.answered(e.id, result.Err)
		return
	case u.recipe.Format == Native:
		e.columns, e.err = result.Key.record()
	default:
		e.whole = result.Key.clone()
	}
	if age > 0 {
		b.cache.put(e, age)
	} else {
		b.cache.forget(e.id)
	}
}

// stale returns what was known of a column whose unwrap failed because the key service
// is away, and other results as they are. The caller must wipe the key.
func (b *Box) stale(u *unwrapping, result KeyResult) KeyResult {
	if b.cache == nil || b.cache.config.StaleFor == 0 || result.Err == nil {
		return result
	}
	c := b.cache
	if !isOutage(result.Err) {
		c.answered(u.cacheID(), result.Err) // a denial ends a page before all of it was asked for
		return result
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[u.cacheID()]
	if !ok {
		return result
	}
	e := element.Value.(*cacheEntry)
	now := time.Now()
	if e.err != nil || !now.Before(e.dies) {
		return result
	}
	e.retry = now.Add(min(c.config.MaxAge/8, 5*time.Second))
	return e.result(u)
}

// isOutage reports whether a key service did not answer, as opposed to refuse.
func isOutage(err error) bool { return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrThrottled) }

// answered forgets a key that the service refused to unwrap again. Neither an outage nor a
// caller that gave up is an answer.
func (c *cache) answered(id cacheID, err error) {
	if !isOutage(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		c.forget(id)
	}
}

func (c *cache) forget(id cacheID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.entries[id]; ok {
		c.remove(element)
	}
}

// isRefusal reports whether asking again cannot open a column. It returns false
// if an outage may have hidden another answer.
func isRefusal(err error) bool {
	return (errors.Is(err, ErrDecrypt) || errors.Is(err, ErrBinding)) && !Retryable(err)
}

func (c *cache) put(e *cacheEntry, age time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.entries[e.id]; ok {
		c.remove(old)
	}
	for len(c.entries) >= c.config.MaxEntries {
		c.remove(c.recent.Back())
	}
	e.expires = time.Now().Add(age)
	e.dies = e.expires
	if e.err == nil {
		e.dies = e.expires.Add(c.config.StaleFor)
	}
	c.entries[e.id] = c.recent.PushFront(e)
	if c.sweeper == nil {
		c.sweeper = time.AfterFunc(c.sweepPause(), c.sweep)
	}
}

// remove wipes an entry. Keys in use keep what they need of it.
func (c *cache) remove(element *list.Element) {
	e := c.recent.Remove(element).(*cacheEntry)
	delete(c.entries, e.id)
	e.whole.Wipe()
	e.columns = nil
}

// sweep removes dead entries, so that no key stays in memory because nobody
// asks for it. It ends when the cache is empty.
func (c *cache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, element := range c.entries {
		if !now.Before(element.Value.(*cacheEntry).dies) {
			c.remove(element)
		}
	}
	if len(c.entries) == 0 {
		c.sweeper = nil
		return
	}
	c.sweeper.Reset(c.sweepPause())
}

// sweepPause spreads the work of sweeping: each entry is checked eight times.
func (c *cache) sweepPause() time.Duration { return max(c.config.MaxAge/8, time.Millisecond) }
