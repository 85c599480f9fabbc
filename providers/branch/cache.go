package branch

import (
	"container/list"
	"sync"
	"time"
)

// cache holds opened branch keys, and for a while what a key store or key service
// refused. It is bounded in number and age, and wipes what it drops.
type cache struct {
	most int // opened keys

	mu      sync.Mutex
	keys    int // opened keys
	entries map[entryID]*list.Element
	recent  list.List // of *entry, the last used in front
	sweeper *time.Timer
	// highest is the highest version seen of a branch. It outlives the entries, so that nothing
	// leads this process back to an older key, or to another one of the same number.
	highest map[Name]uint32
}

// entryID is a version of a branch. Version 0 is the current one.
type entryID struct {
	name    Name
	version uint32
}

type entry struct {
	id      entryID
	key     *key      // nil for version 0 and for a refusal
	current uint32    // of version 0
	wrapped string    // the row's key column that was opened
	err     error     // of a refusal
	since   time.Time // when what it says was asked for
	until   time.Time // of a refusal
	retry   time.Time // while the key service is away, when it is asked again
	asked   time.Time // when it was last opened ahead of time
}

func newCache(most int) *cache {
	return &cache{most: most, entries: make(map[entryID]*list.Element), highest: make(map[Name]uint32)}
}

// within reports whether less than d has passed since then, by the monotonic clock and by
// that on the wall, which alone counts the time that a machine sleeps.
func within(d time.Duration, then, now time.Time) bool {
	return now.Sub(then) < d && now.Round(0).Sub(then.Round(0)) < d
}

// usable reports whether an entry may be used without asking again.
func (e *entry) usable(now time.Time, age time.Duration) bool {
	switch {
	case e.err != nil:
		return now.Before(e.until)
	case now.Before(e.retry):
		return true
	}
	return within(age, e.since, now)
}

// find returns the opened key of a version, or the refusal of it.
func (c *cache) find(id entryID, age time.Duration) (k *key, found bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	e := c.fresh(id, now, age)
	if e != nil && e.err == nil && id.version == 0 {
		if e.current < c.highest[id.name] { // put by a load that began before the branch was renewed
			return nil, false, nil
		}
		e = c.fresh(entryID{id.name, e.current}, now, age)
	}
	if e == nil {
		return nil, false, nil
	}
	return e.key, true, e.err
}

func (c *cache) fresh(id entryID, now time.Time, age time.Duration) *entry {
	element, ok := c.entries[id]
	if !ok || !element.Value.(*entry).usable(now, age) {
		return nil
	}
	c.recent.MoveToFront(element)
	return element.Value.(*entry)
}

// last returns what is known of a version, however old.
func (c *cache) last(id entryID) (e entry, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[id]
	if !ok {
		return entry{}, false
	}
	return *element.Value.(*entry), true
}

// put stores an entry, which the cache then owns. A key with the same bytes keeps what it
// has ready. Entries are wiped when they are older than age. A key that was wiped meanwhile,
// to make room for another or because its branch is being erased, does not come back.
func (c *cache) put(e *entry, age time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.key != nil && e.key.isWiped() {
		return
	}
	if element, ok := c.entries[e.id]; ok {
		old := element.Value.(*entry)
		e.asked = old.asked
		if old.key == e.key {
			old.key = nil // it goes on
			c.keys -= held(e)
		}
		c.remove(element)
	}
	for c.full(e) {
		c.remove(c.recent.Back())
	}
	c.keys += held(e)
	c.entries[e.id] = c.recent.PushFront(e)
	if c.sweeper == nil {
		c.sweeper = time.AfterFunc(sweepPause(age), func() { c.sweep(age) })
	}
}

// full reports whether another entry must make room for e. What holds no key, such as
// which version is current, is small: there may be one of these beside each key.
func (c *cache) full(e *entry) bool {
	return c.keys+held(e) > c.most || len(c.entries) >= 2*c.most
}

// held is the number of keys in an entry.
func held(e *entry) int {
	if e.key == nil {
		return 0
	}
	return 1
}

// drop forgets what is known of a version.
func (c *cache) drop(id entryID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.entries[id]; ok {
		c.remove(element)
	}
}

// dropBranch forgets every version of a branch.
func (c *cache) dropBranch(name Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, element := range c.entries {
		if id.name == name {
			c.remove(element)
		}
	}
}

// dropBelow forgets every version of a branch, and of those under it.
func (c *cache) dropBelow(name Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, element := range c.entries {
		if id.name == name || name.Parent == "" && id.name.Parent == name.Branch {
			c.remove(element)
		}
	}
}

func (c *cache) remove(element *list.Element) {
	e := c.recent.Remove(element).(*entry)
	delete(c.entries, e.id)
	c.keys -= held(e)
	if e.key != nil {
		e.key.wipe()
	}
}

// sweep wipes what is older than age, so that no key stays in memory because nobody asks
// for it. It ends when the cache is empty.
func (c *cache) sweep(age time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, element := range c.entries {
		e := element.Value.(*entry)
		if e.err != nil && !now.Before(e.until) || e.err == nil && !within(age, e.since, now) {
			c.remove(element)
		}
	}
	if len(c.entries) == 0 {
		c.sweeper = nil
		return
	}
	c.sweeper.Reset(sweepPause(age))
}

func sweepPause(age time.Duration) time.Duration { return max(age/8, time.Millisecond) }

// mostHighest limits the branches of which a first version is remembered, at about 100
// bytes each.
const mostHighest = 100_000

// sawVersion returns the highest version seen of a branch, with this one.
func (c *cache) sawVersion(name Name, version uint32) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	highest := max(c.highest[name], version)
	if highest > 1 || highest == 1 && len(c.highest) < mostHighest {
		c.highest[name] = highest
	}
	return highest
}
