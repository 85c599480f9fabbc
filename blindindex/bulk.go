package blindindex

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"
)

// ErrPanic reports that the function given to [Bulk] panicked.
var ErrPanic = errors.New("computing panicked")

// BulkOptions configure [Bulk]. The zero value uses all processors and reports no
// progress.
type BulkOptions struct {
	// Workers is the number of items computed concurrently; 0 means GOMAXPROCS. Each
	// takes the memory of one hash, 4 MiB with Argon2id. An [Index] never runs more
	// memory-hard hashes at once than there are processors.
	Workers int
	// Total is the number of items for Progress, if it is known.
	Total int
	// Progress is called after each item, in order, by the goroutine that ranges
	// over the results. total is 0 if unknown. Nil reports nothing.
	Progress func(done, total int)
}

// Computed is an item with its result.
type Computed[T, R any] struct {
	Item   T
	Result R
}

// Bulk computes the index columns of many items on all processors, for a first
// filling, a rotation, an import or a long IN. It yields the items in their
// order, each with its result or its error.
//
// compute is called by several goroutines at once. It usually calls
// [Index.Compute] or [Rotation.Compute] with a field of the item. If it fails or
// panics, the item is yielded with its error or [ErrPanic], and the others
// continue. An error from items is yielded in its place.
//
// When ctx ends, Bulk yields a zero item with the error of ctx as the last one,
// after at most the time of one hash. Breaking out of the loop ends the work as
// well. No goroutine is left in either case.
//
// The goroutine that ranges over the results reads the items one by one. At most
// four items per worker are held at a time.
func Bulk[T, R any](ctx context.Context, items iter.Seq2[T, error], compute func(T) (R, error), o BulkOptions) iter.Seq2[Computed[T, R], error] {
	return func(yield func(Computed[T, R], error) bool) {
		workers := o.Workers
		if workers < 1 {
			workers = runtime.GOMAXPROCS(0)
		}
		ctx, stop := context.WithCancel(ctx)
		b := bulk[T, R]{
			compute:  compute,
			progress: o.Progress,
			total:    o.Total,
			yield:    yield,
			jobs:     make(chan job[T, R], 4*workers),
		}
		for range workers {
			b.workers.Go(func() { b.work(ctx) })
		}
		defer b.workers.Wait()
		defer close(b.jobs)
		defer stop()
		b.run(ctx, items)
	}
}

// bulk is one loop over the results of [Bulk].
type bulk[T, R any] struct {
	compute  func(T) (R, error)
	progress func(done, total int)
	total    int
	yield    func(Computed[T, R], error) bool

	// jobs holds the items that no worker has started. Its capacity is that of the
	// window, so that a send never blocks.
	jobs    chan job[T, R]
	window  []<-chan outcome[T, R] // items not yet delivered, oldest first
	workers sync.WaitGroup
	done    int
}

// outcome is a pair to be yielded.
type outcome[T, R any] struct {
	Computed[T, R]
	err error
}

// job is an item and the channel for its outcome.
type job[T, R any] struct {
	item T
	out  chan<- outcome[T, R]
}

func (b *bulk[T, R]) run(ctx context.Context, items iter.Seq2[T, error]) {
	for item, err := range items {
		if len(b.window) == cap(b.jobs) && !b.deliver(ctx) {
			return
		}
		b.start(item, err)
	}
	for len(b.window) > 0 && b.deliver(ctx) {
	}
}

// start appends an item to the window and passes it to the workers.
func (b *bulk[T, R]) start(item T, err error) {
	out := make(chan outcome[T, R], 1)
	b.window = append(b.window, out)
	if err != nil {
		out <- outcome[T, R]{Computed[T, R]{Item: item}, err}
		return
	}
	b.jobs <- job[T, R]{item, out}
}

// deliver waits for the oldest item and yields it. It reports whether to
// continue.
func (b *bulk[T, R]) deliver(ctx context.Context) bool {
	var oldest outcome[T, R]
	select {
	case oldest = <-b.window[0]:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		b.yield(Computed[T, R]{}, ctx.Err())
		return false
	}
	b.window = b.window[1:]
	if !b.yield(oldest.Computed, oldest.err) {
		return false
	}
	if b.done++; b.progress != nil {
		b.progress(b.done, b.total)
	}
	return true
}

// work runs one worker. When ctx ends, nobody waits for the remaining items.
func (b *bulk[T, R]) work(ctx context.Context) {
	ended := false
	defer func() {
		if !ended { // compute called runtime.Goexit and ended the worker
			b.workers.Go(func() { b.work(ctx) })
		}
	}()
	for j := range b.jobs {
		if ctx.Err() == nil {
			b.computeOne(j)
		}
	}
	ended = true
}

// computeOne always sends an outcome, even if compute does not return.
func (b *bulk[T, R]) computeOne(j job[T, R]) {
	answer := outcome[T, R]{Computed[T, R]{Item: j.item}, fmt.Errorf("blindindex: %w", ErrPanic)}
	defer func() { j.out <- answer }()
	defer func() {
		if cause := recover(); cause != nil {
			answer.err = panicError(cause)
		}
	}()
	answer.Result, answer.err = b.compute(j.item)
}

// panicError describes a panic without quoting a plaintext. Errors of the runtime
// contain only lengths and indexes; other values may contain anything.
func panicError(cause any) error {
	if err, ok := cause.(runtime.Error); ok {
		return fmt.Errorf("blindindex: %w: %w", ErrPanic, err)
	}
	return fmt.Errorf("blindindex: %w with a %T", ErrPanic, cause)
}
