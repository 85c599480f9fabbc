package files

import (
	"context"
	"crypto/rand"
	"io"

	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
)

// Writer encrypts what is written to it into one object. It is not safe for
// concurrent use.
//
// The object is complete only when [Writer.Close] has returned nil. To give up, do
// not call Close, or cancel the context first. Every reader refuses an incomplete
// object.
//
// A deferred Close does not complete an object whose source panicked or ended the
// goroutine inside [Writer.ReadFrom], which [io.Copy] calls. A program that calls
// Write itself must not defer Close: a panic between two writes looks like the end.
type Writer struct {
	ctx     context.Context
	dst     io.Writer
	body    *body
	id      ID
	options Options

	pending []byte // plaintext of a chunk that is not full yet
	out     []byte // not written yet: header, sealed chunks
	index   int64  // of the next chunk
	err     error  // the first; nothing is written after it
	closed  bool
}

// NewWriter returns a writer to dst. It writes nothing yet. Salt and file id are
// random. Once ctx is done, every method fails with its error.
//
// NewWriter returns [kmsencrypted.ErrWiped] for a wiped key and
// [kmsencrypted.ErrConfig] for invalid options.
func NewWriter(ctx context.Context, dst io.Writer, k Key, o Options) (*Writer, error) {
	var salt [saltSize]byte
	rand.Read(salt[:])
	return sealObject(ctx, dst, k, o, NewID(), salt[:])
}

// sealObject takes id and salt, which callers of this package cannot choose.
func sealObject(ctx context.Context, dst io.Writer, k Key, o Options, id ID, salt []byte) (*Writer, error) {
	header := appendHeader(nil, id)
	w, err := newWriter(ctx, dst, k, o, salt, header)
	if err != nil {
		return nil, err
	}
	w.id, w.out = id, append(header, w.out...)
	return w, nil
}

// newWriter writes only a body, bound to context.
func newWriter(ctx context.Context, dst io.Writer, k Key, o Options, salt, context []byte) (*Writer, error) {
	if dst == nil {
		return nil, configError("no destination to write to")
	}
	o, err := o.check()
	if err != nil {
		return nil, err
	}
	b, err := newBody(k, salt, context)
	if err != nil {
		return nil, err
	}
	return &Writer{ctx: ctx, dst: dst, body: b, options: o, out: append(salt[:saltSize:saltSize], b.commitment[:]...)}, nil
}

// ID returns the file id. Store it in the row with the wrapped key.
func (w *Writer) ID() ID {
	if w == nil {
		return ID{}
	}
	return w.id
}

// Write encrypts p. It writes to the destination after every 256 KiB.
func (w *Writer) Write(p []byte) (n int, err error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	w.err = errInterrupted // stays if the destination panics
	for n < len(p) {
		// A full chunk is never the last, so it can be sealed at once.
		if len(w.pending) == 0 && len(p)-n >= ChunkSize {
			err = w.seal(p[n:][:ChunkSize])
			if err == nil {
				n += ChunkSize
			}
		} else {
			n += w.keep(p[n:])
			if len(w.pending) == ChunkSize {
				err = w.seal(w.pending)
				w.pending = w.pending[:0]
			}
		}
		if err != nil {
			break
		}
	}
	w.err = err
	return n, err
}

// keep appends the part of p that fits to the pending chunk.
func (w *Writer) keep(p []byte) int {
	if w.pending == nil {
		w.pending = make([]byte, 0, ChunkSize)
	}
	n := min(len(p), ChunkSize-len(w.pending))
	w.pending = append(w.pending, p[:n]...)
	return n
}

func (w *Writer) seal(chunk []byte) error {
	const room = bodyStart + batchChunks*sealedChunk
	if cap(w.out) < room {
		w.out = append(make([]byte, 0, room), w.out...)
	}
	var err error
	if w.out, err = w.body.seal(w.out, chunk, w.index); err != nil {
		return err
	}
	w.index++
	if cap(w.out)-len(w.out) < sealedChunk {
		return w.flush(w.index * ChunkSize)
	}
	return nil
}

// flush writes what is sealed. done is the number of bytes of the file written so
// far.
func (w *Writer) flush(done int64) error {
	if err := fullio.Write(w.dst, w.out); err != nil {
		return err
	}
	w.out = w.out[:0]
	w.options.Progress(done)
	return nil
}

// ReadFrom encrypts everything from src and returns the number of bytes read. If
// src fails, every later call fails too, so that half a file is never sealed as a
// whole one.
func (w *Writer) ReadFrom(src io.Reader) (n int64, err error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	w.err = errInterrupted // stays if src or the destination panics
	n, err = w.readFrom(src)
	w.err = err
	return n, err
}

func (w *Writer) readFrom(src io.Reader) (n int64, err error) {
	if err := w.flush(w.index * ChunkSize); err != nil {
		return 0, err
	}
	p := pipeline{
		ctx: w.ctx, workers: w.options.Workers, size: batchChunks * ChunkSize,
		read: func(b *batch) (more bool) {
			got, more := w.readBatch(b, src)
			n += int64(got)
			return more
		},
		work: func(b *batch) (err error) {
			b.out, err = w.body.sealAll(b.out, b.in, b.index)
			return err
		},
		write: func(b *batch) error {
			if err := fullio.Write(w.dst, b.out); err != nil {
				return err
			}
			w.options.Progress(b.index*ChunkSize + int64(len(b.in)))
			return nil
		},
	}
	err = p.run()
	return n, err
}

// readBatch fills b with the pending bytes and bytes from src. At the end of src,
// the incomplete last chunk is pending again.
func (w *Writer) readBatch(b *batch, src io.Reader) (got int, more bool) {
	b.in = append(b.in, w.pending...)
	w.pending = w.pending[:0]
	got, err := fullio.Read(src, b.in[len(b.in):cap(b.in)])
	b.in = b.in[:len(b.in)+got]
	if err != nil && err != io.EOF {
		b.err = err
		b.in = b.in[:0]
		return got, false
	}
	whole := len(b.in) - len(b.in)%ChunkSize
	w.keep(b.in[whole:])
	b.in, b.index = b.in[:whole], w.index
	w.index += int64(whole / ChunkSize)
	return got, err == nil
}

// Close seals the last chunk and writes the rest. It does not close the
// destination. After an error, or once ctx is done, it seals nothing and returns
// that error. A second Close returns the same as the first.
func (w *Writer) Close() error {
	switch {
	case w == nil || w.body == nil:
		return errNoWriter
	case w.closed:
		return w.err
	}
	w.closed = true
	defer w.wipe()
	if w.err == nil {
		w.fail(w.ctx.Err())
	}
	if w.err == nil {
		w.err = errInterrupted // stays if the destination panics
		w.err = w.finish()
	}
	return w.err
}

// finish writes the last chunk.
func (w *Writer) finish() (err error) {
	if w.out, err = w.body.seal(w.out, w.pending, w.index); err != nil {
		return err
	}
	return w.flush(w.index*ChunkSize + int64(len(w.pending)))
}

func (w *Writer) wipe() {
	clear(w.pending[:cap(w.pending)])
	w.pending, w.out = nil, nil
}

// errNoWriter reports a zero Writer, which has neither key nor destination.
var errNoWriter = configError("the Writer was not made by NewWriter")

// ready reports why nothing more can be written.
func (w *Writer) ready() error {
	if w == nil || w.body == nil {
		return errNoWriter
	}
	if w.closed {
		return errClosed
	}
	if w.err == nil {
		w.fail(w.ctx.Err())
	}
	return w.err
}

// fail records the first error and returns err.
func (w *Writer) fail(err error) error {
	if w.err == nil {
		w.err = err
	}
	return err
}
