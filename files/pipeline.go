package files

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
)

// batchChunks is the number of chunks read and written together, 256 KiB. The
// buffers of twice as many do not fit into a second-level cache.
const batchChunks = 16

// batch is one unit of work.
type batch struct {
	in, out []byte
	index   int64 // of the first chunk
	err     error // of reading; set if chunks after in are missing

	room   *room
	failed error // of work
	worked bool  // out and failed are set
}

// room holds the buffers of a batch: [0] is read into, [1] is written from.
type room [2][batchChunks * sealedChunk]byte

// rooms reuses buffers, which are wiped when they come back. Allocating memory for
// each small file would cost more than encrypting it.
var rooms = sync.Pool{New: func() any { return new(room) }}

// pipeline moves batches from a source to a sink with several workers. A worker
// takes the next task there is: write the batch whose turn it is, otherwise read
// one, otherwise work on one. With two batches per worker there is nearly always a
// task. Workers that waited for their turn to read and write took a tenth to a
// sixth longer. No goroutine is left when run returns.
type pipeline struct {
	ctx     context.Context
	workers int
	size    int                      // bytes to read for a batch
	read    func(*batch) (more bool) // one at a time, in order
	work    func(*batch) error       // concurrent; out is valid up to an error
	write   func(*batch) error       // one at a time, in the order of read

	mu      sync.Mutex // guards the fields below; not held in read, work and write
	change  sync.Cond  // there may be a new task
	reading bool
	writing bool
	ended   bool     // nothing more to read
	free    []*batch // the last one is warm in the cache
	queue   []*batch // read and not written yet, in order
	begun   int      // how many of queue are being worked on or done
	started int      // workers
	made    int      // batches allocated
	err     error    // the first in order: nothing is written after it
	panic   any      // of a worker in a goroutine of its own
	done    sync.WaitGroup
}

// errInterrupted is the error of a source or destination that panicked or ended its
// goroutine instead of returning.
var errInterrupted = errors.New("files: the source or the destination did not return")

func (p *pipeline) run() error {
	p.change.L = &p.mu
	defer p.release()
	p.started = 1
	p.worker()
	p.done.Wait()
	if p.panic != nil {
		panic(p.panic) // in the goroutine of the caller, who may recover
	}
	return p.err
}

// helper is a worker in a goroutine of its own. Its panic must not end the program.
func (p *pipeline) helper() {
	defer func() {
		if cause := recover(); cause != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.panic = cause
		}
	}()
	p.worker()
}

// release wipes the buffers of the batches once all workers have ended.
func (p *pipeline) release() {
	p.done.Wait()
	for _, b := range append(p.queue, p.free...) {
		clear(b.room[0][:])
		clear(b.room[1][:])
		rooms.Put(b.room)
	}
}

func (p *pipeline) worker() {
	p.mu.Lock()
	ended := false
	// This also runs if source or destination panics or calls runtime.Goexit.
	defer func() {
		p.ended = true
		if !ended && p.err == nil {
			p.err = errInterrupted
		}
		p.change.Broadcast()
		p.mu.Unlock()
	}()
	for p.err == nil {
		switch {
		case !p.writing && len(p.queue) > 0 && p.queue[0].worked:
			p.writeNext()
		case !p.reading && !p.ended && (len(p.free) > 0 || p.made < p.most()):
			p.readNext()
		case p.begun < len(p.queue):
			p.workNext()
		case p.ended:
			ended = true
			return // a worker that still holds a batch does the rest
		default:
			p.change.Wait()
			continue
		}
		p.change.Broadcast()
	}
}

// most returns the maximum number of batches.
func (p *pipeline) most() int {
	if p.workers == 1 {
		return 1
	}
	return 2 * p.workers
}

func (p *pipeline) unlocked(f func()) {
	p.mu.Unlock()
	defer p.mu.Lock()
	f()
}

func (p *pipeline) readNext() {
	b := p.empty()
	p.reading = true
	more := false
	p.unlocked(func() {
		if b.err = p.ctx.Err(); b.err == nil {
			more = p.read(b)
		}
	})
	p.reading = false
	p.ended = p.ended || !more || b.err != nil
	p.queue = append(p.queue, b)
	// A short file is done before a second worker would start.
	if !p.ended && p.started < p.workers {
		p.started++
		p.done.Go(p.helper)
	}
}

// empty returns an unused batch.
func (p *pipeline) empty() *batch {
	var b *batch
	if last := len(p.free) - 1; last >= 0 {
		b, p.free = p.free[last], p.free[:last]
	} else {
		b = &batch{room: rooms.Get().(*room)}
		p.made++
	}
	*b = batch{in: b.room[0][:0:p.size], out: b.room[1][:0], room: b.room}
	return b
}

func (p *pipeline) workNext() {
	b := p.queue[p.begun]
	p.begun++
	p.unlocked(func() { b.failed = p.work(b) })
	b.worked = true
}

// writeNext writes the valid part of the next batch before it records an error.
func (p *pipeline) writeNext() {
	b := p.queue[0]
	p.writing = true
	var err error
	p.unlocked(func() { err = p.write(b) })
	p.writing = false
	p.queue = slices.Delete(p.queue, 0, 1)
	p.begun--
	p.free = append(p.free, b)
	p.err = cmp.Or(p.err, err, b.failed, b.err) // it may be that another worker did not return
}
