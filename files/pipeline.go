package files

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// batchChunks is how many chunks are read and written together, 256 KiB. Twice as
// many, read and written, do not fit into a second-level cache any more.
const batchChunks = 16

// batch is what is in hand at once.
type batch struct {
	in, out []byte
	index   int64 // of the first chunk
	err     error // of reading: what comes behind in is lost

	room   *room
	failed error // of work
	worked bool  // out and failed are there
}

// room is what a batch lies in, [0] what is read and [1] what is written.
type room [2][batchChunks * sealedChunk]byte

// rooms are wiped when they come back. Fresh memory for each file would cost a
// small one more than its encryption does.
var rooms = sync.Pool{New: func() any { return new(room) }}

// pipeline moves batches from a source to a sink through several workers. A
// worker does what there is to do: write the batch whose turn it is, or else
// read one, or else work on one. With two batches for each worker it nearly
// always finds something, whatever the others are about; workers that waited for
// their turn to read and write lost a tenth to a sixth of the time. No goroutine
// is left when run returns.
type pipeline struct {
	ctx     context.Context
	workers int
	size    int                      // how many bytes are read for a batch
	read    func(*batch) (more bool) // one at a time, in order
	work    func(*batch) error       // at the same time; out is good up to an error
	write   func(*batch) error       // one at a time, in the order of read

	mu      sync.Mutex // guards what follows; not held in read, work and write
	change  sync.Cond  // of what there is to do
	reading bool
	writing bool
	ended   bool     // nothing more is read
	free    []*batch // the last one is warm in a cache
	queue   []*batch // read and not written, in order
	begun   int      // how many of queue are worked on or done
	started int      // workers
	made    int      // batches
	err     error    // the first in order: nothing is written behind it
	done    sync.WaitGroup
}

func (p *pipeline) run() error {
	p.change.L = &p.mu
	defer p.release()
	p.started = 1
	p.worker()
	p.done.Wait()
	return p.err
}

// release wipes what the batches lay in, once all workers are gone.
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
	// Also where source or destination panics.
	defer func() {
		p.ended = true
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
			return // whoever still works on a batch or writes one does the rest
		default:
			p.change.Wait()
			continue
		}
		p.change.Broadcast()
	}
}

// most is how many batches there are at most.
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
	// A short file is done before a second worker would have started.
	if !p.ended && p.started < p.workers {
		p.started++
		p.done.Go(p.worker)
	}
}

// empty takes a batch with nothing in it.
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

// writeNext writes what was good before it notes what was not.
func (p *pipeline) writeNext() {
	b := p.queue[0]
	p.writing = true
	var err error
	p.unlocked(func() { err = p.write(b) })
	p.writing = false
	p.queue = slices.Delete(p.queue, 0, 1)
	p.begun--
	p.free = append(p.free, b)
	p.err = cmp.Or(err, b.failed, b.err)
}
