package branch

import (
	"context"
	"sync"
	"time"
)

// flights make one load of a branch at a time, for all callers that wait for it.
type flights struct {
	mu    sync.Mutex
	under map[Name]*flight
}

type flight struct {
	version uint32 // asked for; 0 is the current one
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int // guarded by flights.mu
	key     *key
	err     error
}

// join waits for the load of a branch that is under way, or starts load. It returns the
// flight when that is over, or the error of ctx. The load goes on as long as somebody
// waits for it, even if the caller that started it is gone, and for at least a time, so that
// callers with less patience than a key service learn in the end that it is away.
func (f *flights) join(ctx context.Context, name Name, version uint32, least time.Duration, load func(context.Context) (*key, error)) (*flight, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	shared := f.under[name]
	if shared == nil {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		shared = &flight{version: version, done: make(chan struct{}), cancel: cancel}
		f.under[name] = shared
		if least > 0 {
			shared.waiting++
			time.AfterFunc(least, func() { f.leave(name, shared) })
		}
		go f.fly(own, name, shared, load)
	}
	shared.waiting++
	f.mu.Unlock()
	select {
	case <-shared.done:
		return shared, nil
	case <-ctx.Done():
		f.leave(name, shared)
		return nil, ctx.Err()
	}
}

func (f *flights) fly(ctx context.Context, name Name, shared *flight, load func(context.Context) (*key, error)) {
	defer shared.cancel()
	shared.key, shared.err = load(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.under[name] == shared {
		delete(f.under, name)
	}
	close(shared.done)
}

// leave cancels a load that nobody waits for any more.
func (f *flights) leave(name Name, shared *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if shared.waiting--; shared.waiting == 0 {
		if f.under[name] == shared {
			delete(f.under, name)
		}
		shared.cancel()
	}
}
