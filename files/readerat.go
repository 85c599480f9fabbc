package files

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
)

// ReaderAt decrypts any part of one object. It is safe for concurrent use if its
// source is.
type ReaderAt struct {
	ctx   context.Context
	src   io.ReaderAt
	body  *body
	id    ID
	start int64 // where the first chunk begins
	end   int64 // of the object
	size  int64 // of the file

	buffers sync.Pool // of *[]byte
}

// maxPooled limits the buffers kept between calls: 1 MiB that begins in the
// middle of a chunk, rounded up as the allocator does.
const maxPooled = 72 * sealedChunk

// NewReaderAt opens an object of size bytes. It reads the header and the last
// chunk, so the length of the file is authenticated before anything is read. Once
// ctx is done, every method fails with its error.
//
// NewReaderAt returns [ErrTruncated] for a size that no object can have, and
// [kmsencrypted.ErrDecrypt] for a size that is not this object's. The other
// errors are those of [NewReader]. The other chunks are authenticated when they
// are read.
func NewReaderAt(ctx context.Context, src io.ReaderAt, size int64, k Key) (*ReaderAt, error) {
	if src == nil {
		return nil, errNoSource
	}
	start, err := readStart(ctx, io.NewSectionReader(src, 0, max(size, 0)))
	if err != nil {
		return nil, err
	}
	r, err := newReaderAt(ctx, src, bodyStart, size, k, start[HeaderSize:], start[:HeaderSize])
	if err != nil {
		return nil, err
	}
	r.id = ID(start[idOffset:HeaderSize])
	return r, nil
}

// newReaderAt reads the chunks between start and end, bound to context.
func newReaderAt(ctx context.Context, src io.ReaderAt, start, end int64, k Key, prefix, context []byte) (*ReaderAt, error) {
	size, err := openedSize(end - start)
	if err != nil {
		return nil, err
	}
	b, err := openBody(k, prefix, context)
	if err != nil {
		return nil, err
	}
	r := &ReaderAt{ctx: ctx, src: src, body: b, start: start, end: end, size: size}
	last := size / ChunkSize
	sealed, err := r.fetch(nil, last, last)
	if err != nil {
		return nil, err
	}
	plaintext, err := b.open(sealed[:0], sealed, last)
	if err != nil {
		return nil, err
	}
	clear(plaintext)
	return r, nil
}

// ID returns the file id, which is authenticated.
func (r *ReaderAt) ID() ID {
	if r == nil {
		return ID{}
	}
	return r.id
}

// Size returns the size of the file in bytes, which is authenticated.
func (r *ReaderAt) Size() int64 {
	if r == nil {
		return 0
	}
	return r.size
}

// Section returns a new reader of the whole file that can seek, as
// http.ServeContent and archive/zip need.
func (r *ReaderAt) Section() *io.SectionReader { return io.NewSectionReader(r, 0, r.Size()) }

// ReadAt decrypts the bytes at off into p. It reads the source once and uses as
// much memory again as p; above 1 MiB it allocates that memory anew. After an
// error, n bytes are authentic and the rest of p is zero or unchanged. ReadAt
// returns [kmsencrypted.ErrDecrypt] for a changed chunk, [ErrTruncated] if the
// source has become shorter, and [fs.ErrInvalid] for a negative offset.
func (r *ReaderAt) ReadAt(p []byte, off int64) (n int, err error) {
	if r == nil || r.body == nil {
		return 0, errNoReader
	}
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	switch {
	case off < 0:
		return 0, fmt.Errorf("files: offset %d: %w", off, fs.ErrInvalid)
	case off >= r.size:
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	want := p[:min(int64(len(p)), r.size-off)]
	first, last := off/ChunkSize, (off+int64(len(want))-1)/ChunkSize
	buffer, _ := r.buffers.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
	}
	if *buffer, err = r.fetch(*buffer, first, last); err == nil {
		n, err = r.open(want, *buffer, first, int(off%ChunkSize))
	}
	if cap(*buffer) <= maxPooled {
		r.buffers.Put(buffer)
	}
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// fetch reads the sealed chunks first to last, into buffer if that is large
// enough.
func (r *ReaderAt) fetch(buffer []byte, first, last int64) ([]byte, error) {
	from := r.start + first*sealedChunk
	n := int(min(r.start+(last+1)*sealedChunk, r.end) - from)
	sealed := slices.Grow(buffer[:0], n)[:n]
	switch got, err := r.src.ReadAt(sealed, from); {
	case got == n:
		return sealed, nil
	case err == io.EOF:
		return sealed, ErrTruncated
	case err == nil:
		return sealed, fullio.Failed(fullio.ErrCount)
	default:
		return sealed, fullio.Failed(err)
	}
}

// open decrypts sealed chunks into p, skipping the first skip bytes.
func (r *ReaderAt) open(p, sealed []byte, index int64, skip int) (n int, err error) {
	for ; n < len(p); index++ {
		chunk := sealed[:min(len(sealed), sealedChunk)]
		sealed = sealed[len(chunk):]
		if skip == 0 && len(p)-n >= ChunkSize {
			if _, err = r.body.open(p[n:n:n+ChunkSize], chunk, index); err != nil {
				return n, err
			}
			n += ChunkSize
			continue
		}
		// Decrypt in place, because only a part of it is wanted.
		plaintext, err := r.body.open(chunk[:0], chunk, index)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], plaintext[skip:])
		clear(plaintext)
		skip = 0
	}
	return n, nil
}
