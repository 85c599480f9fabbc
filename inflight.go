package kmsencrypted

import (
	"context"
	"sync"
)

// inflight merges equal unwraps that run at the same time into one request.
// Unwraps are equal if they have the same [unwrapping.identity]: a caller with
// another context or binding makes its own request and its own checks.
type inflight struct {
	mu      sync.Mutex
	flights map[identity]*flight
}

// flight is one column whose unwrap is in flight, shared by all its callers. The
// first caller to take the result checks what the provider returned, so that the
// goroutine that makes the requests can go on with the next one.
type flight struct {
	*unwrapping
	raw       []byte // like Err not to be read before request.done is closed
	KeyResult        // set by settle
	settled   sync.Once
	request   *request
	waiting   int // callers; guarded by inflight.mu
}

// request carries one flight or, if the provider takes batches, many.
type request struct {
	flights []*flight
	done    chan struct{}
	ctx     context.Context // of its own
	cancel  context.CancelFunc
	waiting int  // callers of all its flights; guarded by inflight.mu
	over    bool // guarded by inflight.mu
}

// fetch unwraps a column by a new request, or joins one that is in flight
// already. The result is a copy of the caller's own.
func (b *Box) fetch(ctx context.Context, u *unwrapping) KeyResult {
	if err := ctx.Err(); err != nil {
		return KeyResult{Err: located(OpUnwrap, u.recipe.Provider, u.version, err)}
	}
	flights, own := b.inflight.board(ctx, []*unwrapping{u})
	if own != nil {
		go func() {
			f := own.flights[0]
			f.raw, f.Err = b.decrypt(own.ctx, f.unwrapping)
			b.land(own)
		}()
	}
	return b.wait(ctx, flights[0])
}

// board finds a flight for each unwrapping: one in the air already, or one in the
// new request that it returns, nil if there is none left to make. The request
// keeps running as long as anyone waits for it, even if ctx, which started it, is
// cancelled.
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

// wait returns the result of a flight with a copy of the key, or the error of ctx
// if ctx ends first.
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

// settle makes the key from what the provider returned, once.
func (b *Box) settle(f *flight) {
	f.settled.Do(func() { f.KeyResult = b.settled(f.unwrapping, f.raw, f.Err) })
}

// take ends one caller's wait for a flight that has landed. The last caller gets
// the key itself, all others a copy.
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

// leave ends one caller's wait for a flight without its result. It cancels a
// request that nobody else waits for.
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

// land ends a request. If there is a cache, it stores the keys before anyone
// could make the same request again.
func (b *Box) land(r *request) {
	if b.cache != nil {
		for _, f := range r.flights {
			b.settle(f)
		}
	}
	b.inflight.release(r)
}

// release lets the callers go on that wait for a request. No more callers join it.
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

// discard wipes a result that nobody waits for.
func (f *flight) discard() {
	clear(f.raw)
	f.opened.Wipe()
	f.Key.Wipe()
}

// remove keeps further callers from joining a flight. An abandoned flight may
// have been replaced already.
func (f *inflight) remove(shared *flight) {
	if id := shared.identity(); f.flights[id] == shared {
		delete(f.flights, id)
	}
}
