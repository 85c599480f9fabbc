package files

import (
	"context"
	"io"

	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// Reader decrypts one object from its beginning to its end. It is not safe for
// concurrent use.
//
// The bytes it returns are authenticated chunk by chunk, but only io.EOF proves
// that none are missing at the end. If you must not act on the beginning of a
// damaged file, read it through once first, or use [NewReaderAt], which
// authenticates the length at the start.
type Reader struct {
	secret.Redacted // because of the plaintext

	ctx     context.Context
	src     io.Reader
	body    *body
	id      ID
	options Options

	buffer []byte // holds sealed
	sealed []byte // read and not decrypted yet
	index  int64  // of the first chunk of sealed
	ended  bool   // the source has nothing more

	chunk []byte // holds plain
	plain []byte // decrypted and not returned yet

	done int64
	err  error // the first; io.EOF at the end
}

// NewReader reads the header and the commitment of an object from src, 88 bytes,
// and returns a reader of the file. Once ctx is done, every method fails with its
// error.
//
// NewReader returns the errors of [ReadID], [kmsencrypted.ErrDecrypt] if the key
// is wrong or the header was changed, and [kmsencrypted.ErrWiped]. The reader
// returns [kmsencrypted.ErrDecrypt] for a chunk that was changed or moved, and
// [ErrTruncated] if the end is missing. Every later call returns the same error.
func NewReader(ctx context.Context, src io.Reader, k Key, o Options) (*Reader, error) {
	if src == nil {
		return nil, errNoSource
	}
	start, err := readStart(ctx, src)
	if err != nil {
		return nil, err
	}
	r, err := newReader(ctx, src, k, o, start[HeaderSize:], start[:HeaderSize])
	if err != nil {
		return nil, err
	}
	r.id = ID(start[idOffset:HeaderSize])
	return r, nil
}

var (
	errNoSource = configError("no source to read from")
	errNoReader = configError("the reader was not made by NewReader or NewReaderAt")
)

// readStart reads header, salt and commitment and checks the header.
func readStart(ctx context.Context, src io.Reader) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	start := make([]byte, bodyStart)
	n, err := fullio.Read(src, start)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if _, err := parseHeader(start[:min(n, HeaderSize)]); err != nil {
		return nil, err
	}
	if n < bodyStart {
		return nil, ErrTruncated
	}
	return start, nil
}

// newReader reads the chunks after prefix, salt and commitment, bound to context.
func newReader(ctx context.Context, src io.Reader, k Key, o Options, prefix, context []byte) (*Reader, error) {
	o, err := o.check()
	if err != nil {
		return nil, err
	}
	b, err := openBody(k, prefix, context)
	if err != nil {
		return nil, err
	}
	return &Reader{ctx: ctx, src: src, body: b, options: o}, nil
}

// ID returns the file id, which is authenticated.
func (r *Reader) ID() ID {
	if r == nil {
		return ID{}
	}
	return r.id
}

// Read decrypts into p. If p has at least [ChunkSize] bytes, Read decrypts
// directly into it and may use all of p as scratch space.
func (r *Reader) Read(p []byte) (n int, err error) {
	if r == nil || r.body == nil {
		return 0, errNoReader
	}
	for n < len(p) {
		if len(r.plain) > 0 {
			m := copy(p[n:], r.plain)
			clear(r.plain[:m])
			r.plain = r.plain[m:]
			n += m
			continue
		}
		// Ask the source only if there is nothing to return.
		if r.err != nil || n > 0 && len(r.sealed) == 0 {
			break
		}
		n += r.next(p[n:])
	}
	if n == 0 && len(p) > 0 {
		return 0, r.err
	}
	r.done += int64(n)
	r.options.Progress(r.done)
	return n, nil
}

// next decrypts the next chunk, into p if it has room, otherwise into r.plain. It
// returns the number of bytes put into p.
func (r *Reader) next(p []byte) (direct int) {
	if r.err = r.ctx.Err(); r.err == nil && len(r.sealed) == 0 {
		r.err = r.refill()
	}
	if r.err != nil {
		return 0
	}
	into := r.chunk[:0]
	if len(p) >= ChunkSize {
		into = p[:0:ChunkSize]
	} else if into == nil {
		r.chunk = make([]byte, ChunkSize)
		into = r.chunk[:0]
	}
	n := min(len(r.sealed), sealedChunk)
	plain, err := r.body.open(into, r.sealed[:n], r.index)
	if err != nil {
		r.err = err
		return 0
	}
	r.sealed = r.sealed[n:]
	r.index++
	if n < sealedChunk {
		r.err = io.EOF
	}
	if len(p) >= ChunkSize {
		return len(plain)
	}
	r.plain = plain
	return 0
}

// refill reads a batch of sealed chunks. The source must not be at its end,
// because then the short last chunk would have come before.
func (r *Reader) refill() error {
	if r.ended {
		return ErrTruncated
	}
	if r.buffer == nil {
		r.buffer = make([]byte, batchChunks*sealedChunk)
	}
	n, err := fullio.Read(r.src, r.buffer)
	r.sealed = r.buffer[:n]
	if err == io.EOF {
		r.ended = true
		if n == 0 {
			return ErrTruncated
		}
		return nil
	}
	return err
}

// WriteTo decrypts the rest to dst and returns the number of bytes written.
func (r *Reader) WriteTo(dst io.Writer) (n int64, err error) {
	if r == nil || r.body == nil {
		return 0, errNoReader
	}
	write := func(plaintext []byte) error {
		if err := fullio.Write(dst, plaintext); err != nil {
			return err
		}
		n += int64(len(plaintext))
		r.done += int64(len(plaintext))
		r.options.Progress(r.done)
		return nil
	}
	// First write what Read has left over.
	for len(r.plain) > 0 || len(r.sealed) > 0 && r.err == nil {
		if len(r.plain) == 0 {
			r.next(nil)
		}
		if err := write(r.plain); err != nil {
			r.err = err
			return n, err
		}
		r.plain = nil
	}
	if r.err == nil {
		if r.err = r.stream(write); r.err == nil {
			r.err = io.EOF
		}
	}
	if r.err == io.EOF {
		return n, nil
	}
	return n, r.err
}

// stream decrypts from the next batch of the source to the end.
func (r *Reader) stream(write func([]byte) error) error {
	p := pipeline{
		ctx: r.ctx, workers: r.options.Workers, size: batchChunks * sealedChunk,
		read: func(b *batch) (more bool) {
			n, err := fullio.Read(r.src, b.in[:cap(b.in)])
			b.in, b.index = b.in[:n], r.index
			r.index += int64(n / sealedChunk)
			switch err {
			case nil:
				return true
			case io.EOF:
				if n%sealedChunk == 0 {
					b.err = ErrTruncated
				}
			default:
				b.err = err
				b.in = b.in[:n-n%sealedChunk] // a partial chunk proves nothing
			}
			return false
		},
		work: func(b *batch) (err error) {
			b.out, err = r.body.openAll(b.out, b.in, b.index)
			return err
		},
		write: func(b *batch) error { return write(b.out) },
	}
	return p.run()
}
