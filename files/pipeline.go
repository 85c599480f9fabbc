package files

import (
	"context"
	"sync"
)

// batchChunks is how many chunks are read and written together, 512 KiB. With a
// quarter of that, reading from a file takes 6% longer; with twice as much next
// to nothing is gained.
const batchChunks = 32

// batch is what one worker has in hand.
type batch struct {
	in, out []byte
	index   int64 // of the first chunk
	err     error // of reading: what comes behind in is lost
}

// rooms are what batches lie in, [0] what is read and [1] what is written. They
// are wiped when they come back. Fresh memory for each file would cost a small
// one more than its encryption does.
var rooms = sync.Pool{New: func() any { return new([2][batchChunks * sealedChunk]byte) }}

// pipeline moves batches from a source to a sink through several workers. Each
// worker reads a batch, works on it, waits for its turn and writes it; so there
// are as many buffers as workers, and no goroutine is left when run returns.
type pipeline struct {
	ctx     context.Context
	workers int
	size    int                      // how many bytes are read for a batch
	read    func(*batch) (more bool) // one at a time, in order
	work    func(*batch) error       // at the same time; out is good up to an error
	write   func(*batch) error       // one at a time, in the order of read

	reading sync.Mutex // guards what follows
	ended   bool
	started int
	turn    chan struct{} // closed when the batch that was read last is written

	err  error // the first in order; belongs to whoever has the turn
	done sync.WaitGroup
}

func (p *pipeline) run() error {
	p.turn = make(chan struct{})
	close(p.turn)
	p.started = 1
	p.worker()
	p.done.Wait()
	return p.err
}

func (p *pipeline) worker() {
	room := rooms.Get().(*[2][batchChunks * sealedChunk]byte)
	defer func() {
		clear(room[0][:])
		clear(room[1][:])
		rooms.Put(room)
	}()
	b := &batch{in: room[0][:0:p.size], out: room[1][:0]}
	for {
		turn, next := p.take(b)
		if next == nil {
			return
		}
		err := p.work(b)
		<-turn
		p.finish(b, err)
		close(next)
	}
}

// take reads the next batch. It returns the turn to wait for and the one to give
// on, or nil where there is nothing more to read.
func (p *pipeline) take(b *batch) (turn, next chan struct{}) {
	p.reading.Lock()
	defer p.reading.Unlock()
	if p.ended {
		return nil, nil
	}
	b.in, b.out, b.err = b.in[:0], b.out[:0], p.ctx.Err()
	if b.err == nil {
		p.ended = !p.read(b)
	}
	p.ended = p.ended || b.err != nil
	// A short file is done before a second worker would have started.
	if !p.ended && p.started < p.workers {
		p.started++
		p.done.Go(p.worker)
	}
	turn, p.turn = p.turn, make(chan struct{})
	return turn, p.turn
}

// finish writes what was good before it notes what was not.
func (p *pipeline) finish(b *batch, err error) {
	if p.err != nil {
		return
	}
	if p.err = p.write(b); p.err == nil {
		p.err = err
	}
	if p.err == nil {
		p.err = b.err
	}
	if p.err != nil {
		p.reading.Lock()
		p.ended = true
		p.reading.Unlock()
	}
}
