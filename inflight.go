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

// flight is one column on its way, for everybody who waits for it. What the
// provider returned is checked by the first of them, so that whoever makes the
// requests goes on to the next one at once.
type flight struct {
	*unwrapping
	raw       []byte // as Err not to be read before request.done is closed
	KeyResult        // the key once it is settled
	settled   sync.Once
	request   *request
	waiting   int // guarded by inflight.mu
}

// request carries one flight or, where the provider takes batches, many.
type request struct {
	flights []*flight
	done    chan struct{}
	ctx     context.Context // of its own
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

// fetch unwraps a column by a request, or by one that is on its way already. The
// result is the caller's own.
func (b *Box) fetch(ctx context.Context, u *unwrapping) KeyResult {
	if err := ctx.Err(); err != nil {
		return KeyResult{Err: located(OpUnwrap, u.recipe.Provider, u.version, err)}
	}
	flights, own := b.inflight.board(ctx, []*unwrapping{u})
	if own != nil {
		go func() {
			b.request(own.ctx, own.flights)
			b.land(own)
		}()
	}
	return b.wait(ctx, flights[0])
}

// board finds a flight for each unwrapping: one that is on its way, or one in
// the new request, which is nil if nothing is left for it. That goes on while
// anybody waits for it, whatever becomes of the ctx it began with.
func (f *inflight) board(ctx context.Context, us []*unwrapping) (flights []*flight, own *request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	flights = make([]*flight, len(us))
	for i, u := range us {
		shared := f.flights[u.identity()]
		if shared == nil {
			if own == nil {
				own = &request{done: make(chan struct{})}
				own.ctx, own.cancel = context.WithCancel(context.WithoutCancel(ctx))
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

// land ends a request. With a cache its keys are in there before anybody could
// make the same request again.
func (b *Box) land(r *request) {
	if b.cache != nil {
		for _, f := range r.flights {
			b.settle(f)
		}
	}
	b.inflight.release(r)
}

// release lets those go on who wait for a request, and nobody board any more.
func (f *inflight) release(r *request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.over = true
	for _, shared := range r.flights {
		f.remove(shared)
		if shared.waiting == 0 {
			shared.discard()
		}
	}
	close(r.done)
	r.cancel()
}

// wait returns the result of a flight with a key of the caller's own, or the
// error of ctx if that ends first.
func (b *Box) wait(ctx context.Context, shared *flight) KeyResult {
	select {
	case <-shared.request.done:
		b.settle(shared)
		return b.inflight.take(shared)
	case <-ctx.Done():
		b.inflight.leave(shared)
		return KeyResult{Err: located(OpUnwrap, shared.recipe.Provider, shared.version, ctx.Err())}
	}
}

// settle makes the key of what the provider returned, once.
func (b *Box) settle(f *flight) {
	f.settled.Do(func() {
		if f.Err == nil {
			f.Key, f.Err = f.key(f.raw)
		}
		b.remember(f.unwrapping, f.KeyResult)
	})
}

// take ends the wait for a flight that has landed. Whoever is last takes the key
// itself.
func (f *inflight) take(shared *flight) KeyResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	shared.waiting--
	shared.request.waiting--
	if shared.waiting > 0 && shared.Err == nil {
		return KeyResult{Key: shared.Key.clone()}
	}
	return shared.KeyResult
}

// leave ends the wait for a flight whatever becomes of it. If it has not landed
// and nobody else waits for the request, nobody needs it any more.
func (f *inflight) leave(shared *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := shared.request
	shared.waiting--
	r.waiting--
	switch {
	case r.over && shared.waiting == 0:
		shared.discard()
	case !r.over && r.waiting == 0:
		for _, abandoned := range r.flights {
			f.remove(abandoned)
		}
		r.cancel()
	}
}

// discard wipes what nobody waits for.
func (f *flight) discard() {
	clear(f.raw)
	f.opened.Wipe()
	f.Key.Wipe()
}

// remove lets nobody board any more. An abandoned flight may have been replaced.
func (f *inflight) remove(shared *flight) {
	if id := shared.identity(); f.flights[id] == shared {
		delete(f.flights, id)
	}
}
