package branch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// with calls f with an opened version of a branch key; version 0 is the current one.
func (p *Provider) with(ctx context.Context, name Name, version uint32, f func(*key) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := p.key(ctx, name, version)
		if err != nil {
			return err
		}
		// The cache may wipe a key at any time, to make room for another.
		if err = f(k); !errors.Is(err, kmsencrypted.ErrWiped) {
			return err
		}
	}
}

// key returns an opened version from the cache, or loads it.
func (p *Provider) key(ctx context.Context, name Name, version uint32) (*key, error) {
	id := entryID{name, version}
	for {
		if k, found, err := p.cache.find(id, p.options.MaxAge); found {
			p.refresh(ctx, id)
			return k, err
		}
		flight, err := p.flights.join(ctx, name, version, 2*p.patience(), func(ctx context.Context) (*key, error) {
			return p.load(ctx, id, p.options.MaxAge)
		})
		if err != nil {
			return nil, err
		}
		if flight.version != version { // another version of the branch was loaded
			continue
		}
		if version == 0 && flight.err == nil && flight.key.version < p.cache.sawVersion(name, 0) { // renewed meanwhile
			continue
		}
		return flight.key, flight.err
	}
}

// load opens a version of a branch key that is older than age, makes the first one if that
// is permitted, and stores it in the cache.
func (p *Provider) load(ctx context.Context, id entryID, age time.Duration) (*key, error) {
	if k, found, err := p.cache.find(id, age); found { // loaded since the caller looked
		return k, err
	}
	began := time.Now()
	rows, err := p.rows(ctx, id.name)
	// A branch that had a key and has none is lost, and gets no other one under the same number.
	if err == nil && len(rows) == 0 && id.version == 0 && !p.options.NoCreate && p.cache.sawVersion(id.name, 0) == 0 {
		rows, err = p.create(ctx, id.name)
	}
	if err == nil && len(rows) == 0 {
		err = p.above(ctx, id.name)
	}
	var row Row
	if err == nil {
		row, err = p.choose(rows, id)
	}
	var k *key
	if err == nil {
		k, err = p.openRow(ctx, row, age, began)
	}
	if isOutage(err) || isCancelled(err) {
		if k, found, _ := p.cache.find(id, p.options.MaxAge); found && k != nil { // it was opened ahead of time
			return k, nil
		}
	}
	if err != nil {
		return nil, p.refused(id, began, err)
	}
	if id.version == 0 {
		p.cache.put(&entry{id: id, current: row.Version, since: began}, p.longest())
	}
	return k, nil
}

// longest is how long an opened key may be used at all.
func (p *Provider) longest() time.Duration { return p.options.MaxAge + p.options.StaleFor }

// rows reads the rows of a branch, and returns ErrErased for one that is going.
func (p *Provider) rows(ctx context.Context, name Name) ([]Row, error) {
	_, rows, err := p.read(ctx, name)
	if err == nil {
		err = gone(rows)
	}
	if errors.Is(err, ErrErased) {
		p.cache.dropBranch(name)
	}
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// read reads the key store, and checks that it is at the head of the receipts.
func (p *Provider) read(ctx context.Context, name Name) (state State, rows []Row, err error) {
	if p.options.Receipts == nil {
		return p.readStore(ctx, name)
	}
	for try := 0; ; try++ {
		// The head first: what is erased meanwhile raises the store before the head.
		head, err := p.head(ctx)
		if err != nil {
			return state, nil, err
		}
		if state, rows, err = p.readStore(ctx, name); err != nil {
			return state, nil, err
		}
		if err = head.check(state); err == nil {
			return state, rows, head.closed(name)
		}
		if try > 1 { // once more, and again: erasures may have begun and ended in between
			return state, nil, err
		}
	}
}

// readStore reads the key store within the time limit, and checks that it is the one that the
// provider was opened with.
func (p *Provider) readStore(ctx context.Context, name Name) (State, []Row, error) {
	var state State
	var rows []Row
	err := p.access(ctx, func(ctx context.Context) (err error) {
		state, rows, err = p.store.Read(ctx, name)
		return err
	})
	if err == nil && state.ID != p.id {
		err = fmt.Errorf("%w: the key store is %s, and was %s", ErrMissing, state.ID, p.id)
	}
	return state, rows, err
}

// access makes one access to the key store. After the time limit it is unavailable.
func (p *Provider) access(ctx context.Context, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, p.options.StoreTimeout)
	defer cancel()
	err := f(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: no answer of the key store within %v; does it have a connection pool of its own?", kmsencrypted.ErrUnavailable, p.options.StoreTimeout)
	}
	return err
}

// choose returns the row of a version, or of the current one.
func (p *Provider) choose(rows []Row, id entryID) (Row, error) {
	current, _ := newest(rows)
	highest := p.cache.sawVersion(id.name, current.Version)
	row, ok := current, len(rows) > 0
	if id.version > 0 {
		ok = false
		for _, r := range rows {
			if r.Version == id.version {
				row, ok = r, true
			}
		}
	}
	switch {
	case !ok && id.version == 0:
		return Row{}, ErrMissing
	case !ok && id.version > highest+1: // nobody can have made it yet
		return Row{}, kmsencrypted.ErrDecrypt
	case !ok:
		return Row{}, fmt.Errorf("%w: version %d", ErrMissing, id.version)
	case id.version == 0 && row.Version < highest:
		return Row{}, fmt.Errorf("%w: the highest version is %d, and was %d", ErrMissing, row.Version, highest)
	case row.Created.Before(p.options.NotBefore):
		return Row{}, fmt.Errorf("%w: version %d of the branch was made before %s", kmsencrypted.ErrVersionRetired, row.Version, p.options.NotBefore.UTC().Format(time.RFC3339))
	}
	return row, nil
}

// openRow unwraps the key of a row. While the key service is away, it returns the one that was opened
// before for as long as StaleFor permits.
func (p *Provider) openRow(ctx context.Context, row Row, age time.Duration, began time.Time) (*key, error) {
	id := entryID{row.Name, row.Version}
	if k, found, err := p.cache.find(id, age); found && err == nil {
		return k, nil
	}
	known, _ := p.cache.last(id)
	raw, since, err := p.unwrapPatiently(ctx, known, row, began)
	if err != nil {
		if isOutage(err) && p.mayBeStale(known, row) {
			return p.stale(ctx, known, err), nil
		}
		if !isOutage(err) && !isCancelled(err) { // it was for the current version perhaps, and is for this one
			p.cache.drop(id)
		}
		p.observe(ctx, Event{Kind: Refused, Name: row.Name, Version: row.Version, Err: err})
		return nil, err
	}
	defer clear(raw)
	k := known.key
	if k == nil || !k.isKey(raw) {
		k = newKey(p.id, row.Name, row.Version, raw)
	}
	e := &entry{id: id, key: k, wrapped: row.WrappedKey, since: since}
	if now := time.Now(); !within(p.options.MaxAge, since, now) { // the parent is used although its service is away
		e.retry = p.nextTry(since, now)
	}
	p.cache.put(e, p.longest())
	p.observe(ctx, Event{Kind: Opened, Name: row.Name, Version: row.Version})
	return k, nil
}

// mayBeStale reports whether a key is older than MaxAge and may be used all the same while
// the key service is away, because its row is unchanged.
func (p *Provider) mayBeStale(known entry, row Row) bool {
	now := time.Now()
	return known.key != nil && known.wrapped == row.WrappedKey && !within(p.options.MaxAge, known.since, now) && within(p.longest(), known.since, now)
}

// patience is how long a key service may take to answer if there is a key that can be used
// without it. 0 means that there is none.
func (p *Provider) patience() time.Duration {
	if p.options.StaleFor == 0 {
		return 0
	}
	return min(2*time.Second, p.options.MaxAge)
}

// unwrapPatiently is unwrap, with a service that does not answer in time counted as away if
// there is a key that can be used then.
func (p *Provider) unwrapPatiently(ctx context.Context, known entry, row Row, began time.Time) ([]byte, time.Time, error) {
	if !p.mayBeStale(known, row) {
		return p.unwrap(ctx, row, began)
	}
	asked, cancel := context.WithTimeout(ctx, p.patience())
	defer cancel()
	raw, since, err := p.unwrap(asked, row, began)
	if isCancelled(err) && ctx.Err() == nil {
		err = fmt.Errorf("%w: no answer within %v", kmsencrypted.ErrUnavailable, p.patience())
	}
	return raw, since, err
}

// isOutage reports whether a key service did not answer, as opposed to refuse.
func isOutage(err error) bool {
	return errors.Is(err, kmsencrypted.ErrUnavailable) || errors.Is(err, kmsencrypted.ErrThrottled)
}

// stale goes on with a key during an outage, and asks again after a while.
func (p *Provider) stale(ctx context.Context, e entry, err error) *key {
	e.retry = p.nextTry(e.since, time.Now())
	p.cache.put(&e, p.longest())
	p.observe(ctx, Event{Kind: Stale, Name: e.id.name, Version: e.id.version, Err: err})
	return e.key
}

// nextTry returns when to ask a key service again that is away, for a key that was opened
// at a time.
func (p *Provider) nextTry(since, now time.Time) time.Time {
	retry, end := now.Add(min(p.options.MaxAge/8, 5*time.Second)), since.Add(p.longest())
	if retry.After(end) {
		return end
	}
	return retry
}

// unwrap returns the bytes of a branch key, and since when they are known to be permitted.
// The caller wipes the bytes.
func (p *Provider) unwrap(ctx context.Context, row Row, began time.Time) (raw []byte, since time.Time, err error) {
	box := p.box
	above := &parent{p: p, since: began}
	if row.Parent != "" {
		if box, err = kmsencrypted.NewBox(above); err != nil {
			return nil, began, err
		}
	}
	k, err := box.Unwrap(ctx, row.WrappedKey, row.binding(p.id))
	if err != nil {
		return nil, began, err
	}
	defer k.Wipe()
	if raw, err = k.Raw(); errors.Is(err, kmsencrypted.ErrCached) { // the Box has a cache, and this one has its own age
		var fresh kmsencrypted.DataKey
		if fresh, err = k.Fresh(ctx); err == nil {
			defer fresh.Wipe()
			raw, err = fresh.Raw()
		}
	}
	return raw, above.since, err
}

// refused remembers a refusal for NegativeAge. What was open is dropped, unless there was
// no answer.
func (p *Provider) refused(id entryID, began time.Time, err error) error {
	if isOutage(err) || isCancelled(err) {
		return err
	}
	p.cache.drop(id)
	age := p.options.NegativeAge
	if age > 0 && !errors.Is(err, ErrMissing) {
		p.cache.put(&entry{id: id, err: err, since: began, until: time.Now().Add(age)}, p.longest())
	}
	return err
}

func isCancelled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
