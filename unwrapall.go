package kmsencrypted

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"sync/atomic"

	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/parallel"
)

// WrappedKey is the text of a key column, with what its data key is bound to.
type WrappedKey struct {
	Column  string
	Binding Binding
}

// KeyResult is the answer for one [WrappedKey]: a data key or an error.
type KeyResult struct {
	Key DataKey
	Err error
}

// UnwrapAll opens many data keys. It makes [Config.Concurrency] requests at a
// time, few if the provider takes batches, and none for keys in the cache.
// Results are in the order of the columns. Identical columns with the same
// binding cost one call. The caller wipes each key, which is a copy of its own.
//
// A column that fails has its own error and does not affect the others. An error
// that every column of a version would get, such as [ErrDenied], and the end of
// ctx stop the requests that have not begun. Their columns get that error too.
func (b *Box) UnwrapAll(ctx context.Context, columns []WrappedKey) []KeyResult {
	results := make([]KeyResult, len(columns))
	for i, result := range b.UnwrapEach(ctx, columns) {
		results[i] = result
	}
	return results
}

// UnwrapEach is like [Box.UnwrapAll] but yields each result as soon as it is
// ready, with the index of its column, while other requests are still in flight.
// The order is arbitrary. Leaving the loop early cancels the requests.
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
		jobs := b.unwrapJobs(ctx, columns)
		q := newUnwrapQueue(ctx, b, len(columns))
		first := make(map[identity]*unwrapJob)
		for i := range jobs {
			job := &jobs[i]
			if job.done {
				continue
			}
			if equal := first[job.identity()]; equal != nil {
				equal.copies = append(equal.copies, i)
				continue
			}
			first[job.identity()] = job
			q.add(job)
		}
		q.close()
		for i := range jobs {
			if jobs[i].done {
				give(i, jobs[i].KeyResult)
			}
		}
		for range q.units {
			for _, job := range q.next() {
				job.KeyResult = b.stale(job.unwrapping, job.KeyResult)
				job.give(give)
			}
		}
	}
}

// unwrapJob is one column of many.
type unwrapJob struct {
	*unwrapping
	KeyResult
	done   bool  // without a request
	place  int   // index of its result
	copies []int // and of equal columns
}

// unwrapJobs makes the jobs of columns, on all cores, and does those that take no request:
// their keys are in the cache, or a provider in memory opens them, or they are mistakes.
func (b *Box) unwrapJobs(ctx context.Context, columns []WrappedKey) []unwrapJob {
	jobs := make([]unwrapJob, len(columns))
	parallel.Parts(len(jobs), inMemoryUnit, runtime.GOMAXPROCS(0), func(from, to int) {
		for i := from; i < to; i++ {
			job := &jobs[i]
			job.place = i
			job.unwrapping, job.Err = b.unwrapping(columns[i].Column, columns[i].Binding, keycolumn.FormatKey)
			if job.Err == nil {
				job.KeyResult, job.done = b.cached(ctx, job.unwrapping)
			}
			if job.Err == nil && !job.done {
				job.Err = job.parse()
			}
			job.done = job.done || job.Err != nil || b.unwrapHere(ctx, job)
		}
	})
	return jobs
}

// unwrapHere does a job if its provider is in memory, and reports whether it is.
func (b *Box) unwrapHere(ctx context.Context, job *unwrapJob) bool {
	if !staysInMemory(job.recipe.Provider) {
		return false
	}
	job.KeyResult = b.direct(ctx, job.unwrapping)
	return true
}

// give passes the result to each place, with a separate copy of the key.
func (j *unwrapJob) give(to func(int, KeyResult)) {
	for _, i := range j.copies {
		again := KeyResult{Err: j.Err}
		if j.Err == nil {
			again.Key = j.Key.clone()
		}
		to(i, again)
	}
	to(j.place, j.KeyResult)
}

// unwrapUnit is a group of columns that take one request.
type unwrapUnit struct {
	jobs    []*unwrapJob
	flights []*flight              // of the jobs; nil if they have their results already
	stop    *atomic.Pointer[error] // of the route
}

func (u *unwrapUnit) fail(errorOf func(*unwrapJob) error) {
	for _, job := range u.jobs {
		job.Err = errorOf(job)
	}
}

// unwrapQueue sends the requests of one call from a few goroutines, which never
// wait for the results to be used: the caller of next handles them concurrently.
type unwrapQueue struct {
	box     *Box
	ctx     context.Context
	open    map[route]*unwrapUnit // not yet full
	stops   map[route]*atomic.Pointer[error]
	waiting chan *unwrapUnit // to be sent by a runner
	boarded chan *unwrapUnit // to be returned by next
	units   int
	runners int
}

func newUnwrapQueue(ctx context.Context, b *Box, most int) *unwrapQueue {
	return &unwrapQueue{
		box: b, ctx: ctx,
		open: make(map[route]*unwrapUnit), stops: make(map[route]*atomic.Pointer[error]),
		// Large enough that nobody ever waits to send.
		waiting: make(chan *unwrapUnit, most), boarded: make(chan *unwrapUnit, most),
	}
}

// add puts a job into a unit, and starts the unit once it is full.
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

// close starts the units that are not full.
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
			runtime.Gosched() // let the runners send before more columns are parsed
		}
	}
}

func (q *unwrapQueue) run() {
	for unit := range q.waiting {
		own := q.board(unit)
		q.boarded <- unit
		if own != nil {
			q.box.request(own.ctx, own.flights)
			for _, f := range own.flights {
				unit.stopAfter(f.Err)
			}
			q.box.land(own)
		}
	}
}

// board finds the flights of a unit, and the request that the runner has to make
// for them. A unit that takes no request gets its results at once.
func (q *unwrapQueue) board(unit *unwrapUnit) (own *request) {
	if q.ctx.Err() != nil {
		q.end(unit)
		return nil
	}
	if stopped := unit.stop.Load(); stopped != nil {
		unit.fail(func(*unwrapJob) error { return *stopped })
		return nil
	}
	if isInMemory(unit.jobs[0].recipe.Provider) {
		for _, job := range unit.jobs {
			job.KeyResult = q.box.direct(q.ctx, job.unwrapping)
			unit.stopAfter(job.Err)
		}
		return nil
	}
	us := make([]*unwrapping, len(unit.jobs))
	for i, job := range unit.jobs {
		us[i] = job.unwrapping
	}
	unit.flights, own = q.box.inflight.board(q.ctx, us)
	return own
}

// stopAfter stops a route after an error that every request on it would get.
func (u *unwrapUnit) stopAfter(err error) {
	if err != nil && ConcernsAll(err) {
		u.stop.Store(&err)
	}
}

// end fails a unit because ctx has ended.
func (q *unwrapQueue) end(unit *unwrapUnit) {
	unit.fail(func(job *unwrapJob) error {
		return located(OpUnwrap, job.recipe.Provider, job.version, q.ctx.Err())
	})
}

// next waits for the results of a unit, in the order in which the units were sent.
func (q *unwrapQueue) next() []*unwrapJob {
	var unit *unwrapUnit
	select {
	case unit = <-q.boarded:
	case <-q.ctx.Done():
		// The runners may be waiting for a provider, so fail here what they left.
		for left := range q.waiting {
			q.end(left)
			q.boarded <- left
		}
		unit = <-q.boarded
	}
	for i, f := range unit.flights {
		unit.jobs[i].KeyResult = q.box.wait(q.ctx, f)
	}
	runtime.Gosched() // let the runners send before the caller uses the results
	return unit.jobs
}

// request makes one request for the flights of a unit, and a request of its own
// for each item of a batch that another context or wrap may open.
func (b *Box) request(ctx context.Context, unit []*flight) {
	single := unit
	if len(unit) > 1 {
		single = b.unwrapBatch(ctx, unit)
	}
	for _, f := range single {
		f.raw, f.Err = b.decrypt(ctx, f.unwrapping)
	}
}

// unwrapBatch makes one request for several flights and returns those that are
// worth a request of their own.
func (b *Box) unwrapBatch(ctx context.Context, unit []*flight) (again []*flight) {
	provider, _ := batching(unit[0].recipe.Provider)
	items := make([]Wrapped, len(unit))
	for i, f := range unit {
		items[i] = Wrapped{Ciphertext: f.candidates()[0].Ciphertext, Context: f.contexts[0]}
	}
	answers, err := b.batch(ctx, provider, unit[0].event(items[0].Context), len(items), func(ctx context.Context) ([]Result, error) {
		return provider.DecryptBatch(ctx, items)
	})
	for i, f := range unit {
		if err != nil {
			f.Err = located(OpUnwrap, provider, f.version, err)
			continue
		}
		switch answer := answers[i]; {
		case answer.Err == nil:
			f.raw = answer.Bytes
		case errors.Is(answer.Err, ErrDecrypt) && len(f.contexts)*len(f.candidates()) > 1:
			again = append(again, f)
		default:
			f.Err = located(OpUnwrap, provider, f.version, answer.Err)
		}
	}
	return again
}
