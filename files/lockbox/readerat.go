package lockbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
	"github.com/kmsencrypted/kmsencrypted/internal/gcmstream"
)

// ReaderAt reads any part of one object, which was checked as a whole before. It is
// safe for concurrent use if its source is. Close wipes its memory.
//
// Under aes-gcm each part is read from the object again and compared with the part that
// was checked, in constant memory plus 64 bytes per MiB. Under the other algorithms the
// file is in memory.
type ReaderAt struct {
	ctx  context.Context
	src  io.ReaderAt
	size int64 // of the file

	message *gcmstream.Message // only Open is used, which changes nothing
	proofs  [][tagSize]byte    // of each segment of the ciphertext

	mu      sync.Mutex
	current []byte // plaintext of a segment, or of the file
	index   int64  // of the current segment; -1 for none
	sealed  int64  // bytes of ciphertext
}

// NewReaderAt checks an object of size bytes and returns a reader of the file. It
// reads the object once. The errors are those of [Codec.Open].
func (c *Codec) NewReaderAt(ctx context.Context, src io.ReaderAt, size int64, associatedData []byte) (*ReaderAt, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	failed := errShort
	for _, v := range *c.hidden.Get() {
		if size < v.overhead() {
			continue
		}
		object := &source{ReadSeeker: io.NewSectionReader(src, 0, size), size: size}
		r, err := v.readerAt(ctx, src, object, associatedData)
		switch err {
		case nil:
			return r, nil
		case errDecrypt, errLarge: // another version may open it
			failed = err
		default:
			return nil, err
		}
	}
	return nil, failed
}

func (v *version) readerAt(ctx context.Context, src io.ReaderAt, object *source, associatedData []byte) (*ReaderAt, error) {
	if v.key == nil {
		var file bytes.Buffer
		if err := v.open(ctx, &file, object, associatedData); err != nil {
			return nil, err
		}
		return &ReaderAt{ctx: ctx, size: int64(file.Len()), current: file.Bytes()}, nil
	}
	o, err := v.opening(object, associatedData)
	if err != nil {
		return nil, err
	}
	if err := o.check(ctx); err != nil {
		return nil, err
	}
	return &ReaderAt{ctx: ctx, src: src, message: o.message, proofs: o.proofs, index: -1, sealed: o.size, size: o.size - o.padding}, nil
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero ReaderAt.
func (r *ReaderAt) usable() error {
	if r == nil || r.ctx == nil {
		return configError("the ReaderAt was not made by Codec.NewReaderAt")
	}
	return nil
}

// Size returns the size of the file in bytes, which is authenticated.
func (r *ReaderAt) Size() int64 {
	if r == nil {
		return 0
	}
	return r.size
}

// ReadAt decrypts the bytes at offset into p. It returns [kmsencrypted.ErrDecrypt]
// if the object has changed since it was checked, and [fs.ErrInvalid] for a
// negative offset.
func (r *ReaderAt) ReadAt(p []byte, offset int64) (n int, err error) {
	if err := r.usable(); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, fmt.Errorf("lockbox: offset %d: %w", offset, fs.ErrInvalid)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(p) && offset < r.size {
		if err := r.ctx.Err(); err != nil {
			return n, err
		}
		start := int64(0)
		if r.message != nil {
			start = offset - offset%segmentSize
			if err := r.open(offset / segmentSize); err != nil {
				return n, err
			}
		}
		m := copy(p[n:], r.current[offset-start:min(int64(len(r.current)), r.size-start)])
		n, offset = n+m, offset+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// open decrypts a segment and makes it the current one.
func (r *ReaderAt) open(index int64) error {
	if r.index == index {
		return nil
	}
	at := index * segmentSize
	if r.current == nil {
		r.current = make([]byte, segmentSize, segmentSize+tagSize)
	}
	r.index = -1
	r.current = r.current[:min(segmentSize, r.sealed-at)]
	n, err := r.src.ReadAt(r.current, nonceSize+at)
	if n < len(r.current) {
		if err == nil || err == io.EOF {
			return errChanged
		}
		return fullio.Failed(err)
	}
	if !r.message.Open(r.current, at, r.proofs[index]) {
		return errChanged
	}
	r.index = index
	return nil
}

// Close wipes the plaintext that is in memory. It does not close the source.
func (r *ReaderAt) Close() error {
	if err := r.usable(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.current[:cap(r.current)])
	r.current, r.size, r.index = nil, 0, -1
	return nil
}
