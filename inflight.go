package kmsencrypted

import (
	"context"
	"sync"
)

// inflight makes one request of equal unwraps that are on their way at the same
// time. Equal are those with the same [unwrapping.identity]: a caller with
// another context or binding makes a request, and meets the checks, of its own.
type inflight struct {
	mu      sync.Mutex
	flights map[identity]*flight
}

// flight is one column on its way, for everybody who waits for it.
type flight struct {
	*unwrapping
	KeyResult // not to be read before request.done is closed
	request   *request
	waiting   int // guarded by inflight.mu
}

// request carries one flight or, where the provider takes batches, many.
type request struct {
	flights []*flight
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int  // for all its flights; guarded by inflight.mu
	over    bool // guarded by inflight.mu
}

// InMemory is implemented by providers whose calls never leave the process, such
// as a key file's. They take microseconds, so that sharing one would cost more
// than it saves. A provider that forwards to another does not implement it.
type InMemory interface {
	Provider
	InMemory()
}

func isInMemory(p Provider) bool {
	_, ok := p.(InMemory)
	return ok
}

// fetch unwraps columns by one request, except for those that are on their way
// already, which it waits for. Each result is the caller's own.
func (b *Box) fetch(ctx context.Context, us []*unwrapping) []KeyResult {
	results := make([]KeyResult, len(us))
	if err := ctx.Err(); err != nil {
		for i, u := range us {
			results[i].Err = located(OpUnwrap, u.recipe.Provider, u.version, err)
		}
		return results
	}
	if isInMemory(us[0].recipe.Provider) {
		flights := make([]*flight, len(us))
		for i, u := range us {
			flights[i] = &flight{unwrapping: u}
		}
		b.unwrapFlights(ctx, flights)
		for i, f := range flights {
			results[i] = f.KeyResult
		}
		return results
	}
	flights, own := b.inflight.board(us)
	if own != nil {
		b.inflight.start(ctx, own, b.unwrapFlights)
	}
	for i, shared := range flights {
		results[i] = b.inflight.wait(ctx, shared)
	}
	return results
}

// board finds a flight for each unwrapping: one that is on its way, or one in
// the new request, which is nil if nothing is left for it.
func (f *inflight) board(us []*unwrapping) (flights []*flight, own *request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	flights = make([]*flight, len(us))
	for i, u := range us {
		shared := f.flights[u.identity()]
		if shared == nil {
			if own == nil {
				own = &request{done: make(chan struct{})}
			}
			shared = &flight{unwrapping: u, request: own}
			f.flights[u.identity()] = shared
			own.flights = append(own.flights, shared)
		}
		shared.waiting++
		shared.request.waiting++
		flights[i] = shared
	}
	return flights, own
}

// start makes the request, on a goroutine of its own: it goes on while anybody
// waits for it, whatever becomes of the ctx it began with.
func (f *inflight) start(ctx context.Context, r *request, fly func(context.Context, []*flight)) {
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		fly(ctx, r.flights)
		f.land(r)
		r.cancel()
	}()
}

// land ends a request.
func (f *inflight) land(r *request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.over = true
	for _, shared := range r.flights {
		f.remove(shared)
		if shared.waiting == 0 {
			shared.Key.Wipe()
		}
	}
	close(r.done)
}

// wait returns the result of a flight with a key of the caller's own, or the
// error of ctx if that ends first.
func (f *inflight) wait(ctx context.Context, shared *flight) KeyResult {
	select {
	case <-shared.request.done:
		return f.leave(shared)
	case <-ctx.Done():
		f.leave(shared).Key.Wipe()
		return KeyResult{Err: located(OpUnwrap, shared.recipe.Provider, shared.version, ctx.Err())}
	}
}

// leave ends the wait for a flight. Whoever leaves last takes the key itself,
// and if it has not come yet, nobody needs the request any more.
func (f *inflight) leave(shared *flight) KeyResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := shared.request
	shared.waiting--
	r.waiting--
	switch {
	case !r.over && r.waiting > 0:
		return KeyResult{}
	case !r.over:
		for _, abandoned := range r.flights {
			f.remove(abandoned)
		}
		r.cancel()
		return KeyResult{}
	case shared.waiting > 0 && shared.Err == nil:
		return KeyResult{Key: shared.Key.clone()}
	}
	return shared.KeyResult
}

// remove lets nobody board any more. An abandoned flight may have been replaced.
func (f *inflight) remove(shared *flight) {
	if id := shared.identity(); f.flights[id] == shared {
		delete(f.flights, id)
	}
}
