package s3ec

import (
	"crypto/md5"
	"crypto/subtle"
	"hash"
	"io"
	"io/fs"
	"maps"
	"strings"
	"sync"

	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
)

// keepSize is the size in bytes of the largest object that stays in memory, as
// ciphertext, after it was checked. A larger one is requested again.
const keepSize = 4 * segmentSize

// Reader reads any part of an object that was checked as a whole. It is safe for
// concurrent use, and holds about 64 bytes for each MiB of the object, and 256 KiB. Close
// wipes its memory.
type Reader struct {
	key     string
	info    Info
	content content

	mu      sync.Mutex
	remote  *remote
	kept    []byte // the whole object if it is small
	size    int64  // of the plaintext
	buffer  []byte // a segment, with room for a tag
	current []byte // plaintext in the buffer
	index   int64  // of the current segment; -1 for none
	closed  bool
}

// Info describes an object. Except for Format and Wrap nothing in it is authenticated.
type Info struct {
	Format   Format
	Wrap     string            // "kms+context", "AES/GCM", "RSA-OAEP-SHA1", or one of V1
	Metadata map[string]string // without that of the envelope
	Headers  Headers
	Version  Version
}

func infoOf(object *Object, e *envelope) Info {
	info := Info{e.format, e.wrap.name, maps.Clone(object.Metadata), object.Headers, object.Version}
	maps.DeleteFunc(info.Metadata, func(name, _ string) bool { return reserved(strings.ToLower(name)) })
	return info
}

// check reads the object once.
func (r *Reader) check(expected *Content) error {
	r.index = -1
	left := r.remote.size - r.content.tagSize()
	if left < 0 {
		return errDecrypt
	}
	if left+r.content.tagSize() <= keepSize {
		r.kept = make([]byte, 0, left)
	}
	r.buffer = make([]byte, min(segmentSize, left), min(segmentSize, left)+tagSize)
	sum := newSum(expected)
	for index := 0; ; index++ {
		segment := r.buffer[:min(segmentSize, left)]
		if err := r.remote.read(segment, int64(index)*segmentSize); err != nil {
			return err
		}
		left -= int64(len(segment))
		if r.kept != nil {
			r.kept = append(r.kept, segment...)
		}
		if len(segment) > 0 {
			if err := r.content.take(segment); err != nil {
				return err
			}
		}
		if left == 0 {
			return r.finish(segment, index, expected, sum)
		}
		if sum != nil {
			plaintext, _ := r.content.open(segment, index) // was just taken
			sum.Write(plaintext)
		}
	}
}

// newSum returns nil if the caller has no MD5 to compare.
func newSum(expected *Content) hash.Hash {
	if expected == nil || expected.MD5 == nil {
		return nil
	}
	return md5.New()
}

// finish checks the whole, with the last segment in the buffer, and then compares it with
// what the caller expects.
func (r *Reader) finish(segment []byte, index int, expected *Content, sum hash.Hash) error {
	tag := make([]byte, r.content.tagSize())
	if err := r.remote.read(tag, r.remote.size-int64(len(tag))); err != nil {
		return err
	}
	var ok bool
	if r.size, ok = r.content.finish(tag); !ok {
		return errDecrypt
	}
	if expected == nil {
		return nil
	}
	failure := errExpected
	if r.info.Format == V1 {
		failure = errDecrypt // or the error would tell whether the padding was correct
	}
	if expected.Size != r.size {
		return failure
	}
	if sum == nil {
		return nil
	}
	if len(segment) > 0 {
		plaintext, _ := r.content.open(segment, index)
		sum.Write(plaintext)
	}
	if subtle.ConstantTimeCompare(sum.Sum(nil), expected.MD5) != 1 {
		return failure
	}
	return nil
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Reader.
func (r *Reader) usable() error {
	if r == nil || r.content == nil {
		return configError("the Reader was not made by Client.Open")
	}
	return nil
}

// Size returns the size of the plaintext in bytes. In V2 and V3 it is authenticated.
func (r *Reader) Size() int64 {
	if r == nil {
		return 0
	}
	return r.size
}

// Info describes the object.
func (r *Reader) Info() Info {
	if r == nil {
		return Info{}
	}
	return r.info
}

// ReadAt decrypts the bytes at an offset into p. It returns [kmsencrypted.ErrDecrypt] if
// the object changed since it was checked.
func (r *Reader) ReadAt(p []byte, offset int64) (n int, err error) {
	if err := r.usable(); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, failed("read", r.key, fs.ErrInvalid)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(p) && offset < r.size {
		segment, err := r.segment(offset / segmentSize)
		if err != nil {
			return n, failed("read", r.key, err)
		}
		m := copy(p[n:], segment[offset%segmentSize:])
		n, offset = n+m, offset+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteTo writes the whole plaintext to w, with one request to the store if the object is
// large.
func (r *Reader) WriteTo(w io.Writer) (n int64, err error) {
	if err := r.usable(); err != nil {
		return 0, err
	}
	if w == nil {
		return 0, configError("the writer is nil")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept == nil {
		r.index = -1
		r.remote.restart(0)
		defer r.remote.close()
	}
	for n < r.size {
		segment, err := r.segment(n / segmentSize)
		if err == nil {
			err = fullio.Write(w, segment)
		}
		if err != nil {
			return n, failed("read", r.key, err)
		}
		n += int64(len(segment))
	}
	return n, nil
}

// segment returns the plaintext of a segment.
func (r *Reader) segment(index int64) ([]byte, error) {
	if r.closed {
		return nil, fs.ErrClosed
	}
	if err := r.remote.ctx.Err(); err != nil {
		return nil, err
	}
	if r.index == index {
		return r.current, nil
	}
	r.index = -1
	at := index * segmentSize
	segment := r.buffer[:min(segmentSize, r.remote.size-r.content.tagSize()-at)]
	if r.kept != nil {
		copy(segment, r.kept[at:])
	} else if err := r.remote.read(segment, at); err != nil {
		return nil, err
	}
	plaintext, ok := r.content.open(segment, int(index))
	if !ok {
		return nil, errChanged
	}
	r.current, r.index = plaintext, index
	return plaintext, nil
}

// Close wipes the plaintext in memory. Reads fail afterwards.
func (r *Reader) Close() error {
	if err := r.usable(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wipe()
	return nil
}

func (r *Reader) wipe() {
	r.closed = true
	r.remote.close()
	clear(r.buffer[:cap(r.buffer)])
	r.current, r.kept, r.index = nil, nil, -1
}
