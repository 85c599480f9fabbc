package branch

import (
	"context"
	"time"
)

// refreshesAtOnce limits the keys that are opened again in the background at a time.
const refreshesAtOnce = 16

// refresh opens a key again in the background if it will soon be too old, so that nobody
// waits for the key service while a branch is in use. What is refused ends the use of
// the key at once; if there is no answer, it is used until MaxAge as before.
func (p *Provider) refresh(ctx context.Context, id entryID) {
	ahead := p.options.RefreshAhead
	if ahead == 0 {
		return
	}
	since, due := p.cache.due(id, p.options.MaxAge-ahead, ahead/4)
	if !due {
		return
	}
	select {
	case p.refreshes <- struct{}{}:
	default:
		return // the next use tries again
	}
	go func() {
		defer func() { <-p.refreshes }()
		// Then a reader asks, who must not wait for an older request that gets no answer.
		ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), since.Add(p.options.MaxAge))
		defer cancel()
		_, _ = p.flights.join(ctx, id.name, id.version, 0, func(ctx context.Context) (*key, error) {
			return p.load(ctx, id, p.options.MaxAge-ahead)
		})
	}()
}

// due reports whether a version is older than age, at most once in a pause, and since when it
// is known.
func (c *cache) due(id entryID, age, pause time.Duration) (since time.Time, due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[id]
	if !ok {
		return since, false
	}
	now, asked := time.Now(), element.Value.(*entry)
	since = asked.since
	if current, ok := c.entries[entryID{id.name, asked.current}]; ok && id.version == 0 {
		since = current.Value.(*entry).since
	}
	if within(age, since, now) || now.Before(asked.retry) || now.Sub(asked.asked) < pause {
		return since, false
	}
	asked.asked = now
	return since, true
}
