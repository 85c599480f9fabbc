package kmsencrypted

import (
	"context"
	"iter"
	"runtime"
	"sync/atomic"

	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
)

// UnwrapAll opens many data keys side by side, [Config.Concurrency] requests at
// a time, in few requests where the provider takes batches, and in none for keys
// in the cache. Results come in the order of the columns. Identical columns with
// the same binding cost one call; each result is a key of its own to wipe.
//
// A column that fails has its own error and does not hide the others. An error
// that will meet all of a version, such as [ErrDenied], and the end of ctx stop
// what has not begun; what was stopped has that error too.
func (b *Box) UnwrapAll(ctx context.Context, columns []WrappedKey) []KeyResult {
	results := make([]KeyResult, len(columns))
	for i, result := range b.UnwrapEach(ctx, columns) {
		results[i] = result
	}
	return results
}

// UnwrapEach is [Box.UnwrapAll] for whoever goes on with each key as it comes,
// while requests for others are on their way: it yields the index of each column
// and its result, in any order. A loop that ends early ends the requests.
func (b *Box) UnwrapEach(ctx context.Context, columns []WrappedKey) iter.Seq2[int, KeyResult] {
	return func(yield func(int, KeyResult) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		over := false
		give := func(i int, r KeyResult) {
			if over {
				r.Key.Wipe()
			} else if over = !yield(i, r); over {
				cancel()
			}
		}
		q := newUnwrapQueue(ctx, b, len(columns))
		var known []*unwrapJob // without a request
		jobs := make(map[identity]*unwrapJob, len(columns))
		for i, c := range columns {
			u, err := b.unwrapping(c.Column, c.Binding, keycolumn.FormatKey)
			if err != nil {
				known = append(known, &unwrapJob{KeyResult: KeyResult{Err: err}, places: []int{i}})
				continue
			}
			if job := jobs[u.identity()]; job != nil {
				job.places = append(job.places, i)
				continue
			}
			job := &unwrapJob{unwrapping: u, places: []int{i}}
			jobs[u.identity()] = job
			if cached, ok := b.cached(u); ok {
				job.KeyResult = cached
				known = append(known, job)
			} else {
				q.add(job)
			}
		}
		q.close()
		for _, job := range known {
			job.give(give)
		}
		for range q.units {
			for _, job := range q.next() {
				job.give(give)
			}
		}
	}
}

// unwrapJob is one distinct column of many.
type unwrapJob struct {
	*unwrapping
	KeyResult
	places []int // where its result belongs
}

// give hands the result out, to each place a key of its own.
func (j *unwrapJob) give(to func(int, KeyResult)) {
	for _, i := range j.places[1:] {
		again := KeyResult{Err: j.Err}
		if j.Err == nil {
			again.Key = j.Key.clone()
		}
		to(i, again)
	}
	to(j.places[0], j.KeyResult)
}

// unwrapUnit is what goes into one request.
type unwrapUnit struct {
	jobs    []*unwrapJob
	flights []*flight              // of the jobs, unless they have their results already
	stop    *atomic.Pointer[error] // of the route
}

func (u *unwrapUnit) fail(errorOf func(*unwrapJob) error) {
	for _, job := range u.jobs {
		job.Err = errorOf(job)
	}
}

// unwrapQueue makes the requests of one call, on a few goroutines that go from
// one to the next at once: what is to be done with a result is for whoever takes
// it by next, at the same time.
type unwrapQueue struct {
	box     *Box
	ctx     context.Context
	open    map[route]*unwrapUnit // not yet full
	stops   map[route]*atomic.Pointer[error]
	waiting chan *unwrapUnit // for a runner
	boarded chan *unwrapUnit // for next
	units   int
	runners int
}

func newUnwrapQueue(ctx context.Context, b *Box, most int) *unwrapQueue {
	return &unwrapQueue{
		box: b, ctx: ctx,
		open: make(map[route]*unwrapUnit), stops: make(map[route]*atomic.Pointer[error]),
		// Nobody ever waits to send.
		waiting: make(chan *unwrapUnit, most), boarded: make(chan *unwrapUnit, most),
	}
}

// add puts a job into a unit, and that on its way once it is full.
func (q *unwrapQueue) add(job *unwrapJob) {
	r := job.route()
	stop := q.stops[r]
	if stop == nil {
		stop = new(atomic.Pointer[error])
		q.stops[r] = stop
	}
	_, size := batching(job.recipe.Provider)
	if size == 1 || job.legacy || len(job.wraps) == 0 {
		q.start(&unwrapUnit{jobs: []*unwrapJob{job}, stop: stop})
		return
	}
	unit := q.open[r]
	if unit == nil {
		unit = &unwrapUnit{stop: stop}
		q.open[r] = unit
	}
	if unit.jobs = append(unit.jobs, job); len(unit.jobs) == size {
		delete(q.open, r)
		q.start(unit)
	}
}

// close puts what is left on its way.
func (q *unwrapQueue) close() {
	for _, unit := range q.open {
		q.start(unit)
	}
	close(q.waiting)
}

func (q *unwrapQueue) start(unit *unwrapUnit) {
	q.units++
	q.waiting <- unit
	if q.runners < q.box.config.Concurrency {
		q.runners++
		go q.run()
		if q.runners == q.box.config.Concurrency {
			runtime.Gosched() // what comes next can wait until these are on their way
		}
	}
}

func (q *unwrapQueue) run() {
	for unit := range q.waiting {
		own := q.board(unit)
		q.boarded <- unit
		if own != nil {
			q.box.request(own.ctx, own.flights)
			q.heed(unit.stop, own.flights)
			q.box.land(own)
		}
	}
}

// board finds the flights of a unit, or its results where it takes no request.
func (q *unwrapQueue) board(unit *unwrapUnit) (own *request) {
	if q.ctx.Err() != nil {
		q.end(unit)
		return nil
	}
	if stopped := unit.stop.Load(); stopped != nil {
		unit.fail(func(*unwrapJob) error { return *stopped })
		return nil
	}
	us := make([]*unwrapping, len(unit.jobs))
	for i, job := range unit.jobs {
		us[i] = job.unwrapping
	}
	if !isInMemory(us[0].recipe.Provider) {
		unit.flights, own = q.box.inflight.board(q.ctx, us)
		return own
	}
	flights := make([]*flight, len(us))
	for i, u := range us {
		flights[i] = &flight{unwrapping: u}
	}
	q.box.request(q.ctx, flights)
	for i, f := range flights {
		q.box.settle(f)
		unit.jobs[i].KeyResult = f.KeyResult
	}
	q.heed(unit.stop, flights)
	return nil
}

// heed stops a route by an error that all of it would meet.
func (q *unwrapQueue) heed(stop *atomic.Pointer[error], flights []*flight) {
	for _, f := range flights {
		if f.Err != nil && ConcernsAll(f.Err) {
			stop.Store(&f.Err)
		}
	}
}

// end fails a unit because ctx has ended.
func (q *unwrapQueue) end(unit *unwrapUnit) {
	unit.fail(func(job *unwrapJob) error {
		return located(OpUnwrap, job.recipe.Provider, job.version, q.ctx.Err())
	})
}

// next waits for the results of a unit, in the order in which they took off.
func (q *unwrapQueue) next() []*unwrapJob {
	var unit *unwrapUnit
	select {
	case unit = <-q.boarded:
	case <-q.ctx.Done():
		for left := range q.waiting { // by the runners, who may wait for a provider
			q.end(left)
			q.boarded <- left
		}
		unit = <-q.boarded
	}
	for i, f := range unit.flights {
		unit.jobs[i].KeyResult = q.box.wait(q.ctx, f)
	}
	runtime.Gosched() // requests first
	return unit.jobs
}
