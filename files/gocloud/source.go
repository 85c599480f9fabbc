package gocloud

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/kmsencrypted/kmsencrypted/files"

	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// Read-ahead begins with minAhead and doubles up to maxAhead while each read
// continues the last one. With more than maxAhead a large object would take more
// memory than a small one. Download reads the whole object with one request.
const (
	minAhead = 64 << 10
	maxAhead = 2 << 20
	// oneChunk is the size in bytes of the beginning of an object up to the end of
	// its first chunk, enough to open most small objects with one request.
	oneChunk = 88 + files.ChunkSize + 16
)

// source reads one version of one object. Random reads fetch only their range,
// concurrently. Sequential reads are served from read-ahead.
type source struct {
	ctx    context.Context
	bucket *blob.Bucket
	key    string
	before func(asFunc func(any) bool) error // ReaderOptions.BeforeRead, or nil

	// From the first response. Every other response must match.
	size    int64
	modTime time.Time
	asFunc  func(any) bool

	mu         sync.Mutex
	head, tail segment // kept: they are read at opening, and often again
	ahead      segment
	next       int64 // where the last read ended
	window     int64 // size of the next read-ahead
	limit      int64 // no read-ahead beyond this
}

// segment is a part of the object.
type segment struct {
	off  int64
	data []byte
}

// copy copies what the segment has of p, which is at off, and returns the number
// of bytes.
func (s segment) copy(p []byte, off int64) int {
	if off < s.off || off >= s.off+int64(len(s.data)) {
		return 0
	}
	return copy(p, s.data[off-s.off:])
}

// newSource reads the first n bytes of an object, or all if it is shorter.
func newSource(ctx context.Context, bucket *blob.Bucket, key string, n int64, before func(func(any) bool) error) (*source, error) {
	s := &source{ctx: ctx, bucket: bucket, key: key, before: before, size: -1, window: minAhead / 2}
	r, err := s.request(0, n)
	if err != nil {
		return nil, err
	}
	st := &stream{source: s, reader: r, end: min(n, s.size)}
	defer st.Close()
	s.head.data = make([]byte, st.end)
	if _, err := io.ReadFull(st, s.head.data); err != nil {
		return nil, err
	}
	s.next, s.limit = st.end, s.size
	return s, nil
}

// request asks the store for n bytes at off, and checks that the object is still
// the same.
func (s *source) request(off, n int64) (*blob.Reader, error) {
	r, err := s.bucket.NewRangeReader(s.ctx, s.key, off, n, &blob.ReaderOptions{BeforeRead: s.before})
	if err != nil {
		return nil, err
	}
	if s.size < 0 {
		s.size, s.modTime, s.asFunc = r.Size(), r.ModTime(), r.As
		return r, nil
	}
	if r.Size() != s.size || !r.ModTime().Equal(s.modTime) {
		r.Close()
		return nil, ErrReplaced
	}
	return r, nil
}

// ReadAt implements [io.ReaderAt] for ranges within the object. files.ReaderAt
// never asks for more.
func (s *source) ReadAt(p []byte, off int64) (n int, err error) {
	n, err = s.buffered(p, off)
	if n == len(p) || err != nil {
		return n, err
	}
	if err := s.fetch(p[n:], off+int64(n)); err != nil {
		return n, err
	}
	return len(p), nil
}

// buffered serves a read from memory, and reads ahead if the reads are sequential.
// The caller must fetch the rest.
func (s *source) buffered(p []byte, off int64) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = s.held(p, off)
	rest := int64(len(p) - n)
	at := off + int64(n)
	inOrder := at == s.next
	if rest == 0 {
		return n, nil
	}
	s.next = at + rest
	if !inOrder {
		s.window = minAhead / 2
		return n, nil
	}
	s.window = min(2*s.window, maxAhead)
	length := min(max(s.window, rest), max(s.limit, s.next)-at)
	if length <= rest {
		return n, nil
	}
	data := s.ahead.data[:0]
	if int64(cap(data)) < length {
		s.ahead = segment{}
		data = make([]byte, length)
	}
	s.ahead = segment{}
	data = data[:length]
	if err := s.fetch(data, at); err != nil {
		return n, err
	}
	s.ahead = segment{at, data}
	s.next = at + length
	return n + s.ahead.copy(p[n:], at), nil
}

// held copies bytes that are in memory.
func (s *source) held(p []byte, off int64) (n int) {
	for n < len(p) {
		before := n
		for _, part := range []segment{s.head, s.ahead, s.tail} {
			n += part.copy(p[n:], off+int64(n))
		}
		if n == before {
			break
		}
	}
	return n
}

// fetchTail reads the last chunk of the object, if the head does not have it.
func (s *source) fetchTail() error {
	const sealedChunk = files.ChunkSize + 16
	chunks := s.size - (oneChunk - sealedChunk)
	if chunks <= 0 || int64(len(s.head.data)) == s.size {
		return nil
	}
	tail := segment{off: s.size - chunks%sealedChunk, data: make([]byte, chunks%sealedChunk)}
	if err := s.fetch(tail.data, tail.off); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tail = tail
	return nil
}

// fetch reads p from the store.
func (s *source) fetch(p []byte, off int64) error {
	st := &stream{source: s, at: off, end: off + int64(len(p))}
	defer st.Close()
	_, err := io.ReadFull(st, p)
	return err
}

// stream reads a range of the object sequentially. It resumes an interrupted
// transfer.
type stream struct {
	*source
	reader   *blob.Reader // nil before the first request and after a failure
	at, end  int64
	failures int // since the last byte
}

// A transfer fails after more than patience failures without a byte in between.
const (
	patience   = 2
	firstPause = 50 * time.Millisecond
)

func (st *stream) Read(p []byte) (n int, err error) {
	for {
		if st.at >= st.end {
			return 0, io.EOF
		}
		if n, err = st.try(p[:min(int64(len(p)), st.end-st.at)]); n > 0 {
			st.failures = 0
			return n, nil
		}
		if err == nil {
			return 0, nil
		}
		st.Close()
		if st.failures++; st.failures > patience || !mayTryAgain(err) {
			return 0, err
		}
		if err := sleep.For(st.ctx, firstPause<<st.failures); err != nil {
			return 0, err
		}
	}
}

func (st *stream) try(p []byte) (n int, err error) {
	if st.reader == nil {
		if st.reader, err = st.request(st.at, st.end-st.at); err != nil {
			return 0, err
		}
	}
	n, err = st.reader.Read(p)
	st.at += int64(n)
	if err == io.EOF {
		err = fmt.Errorf("gocloud: the store's answer is too short: %w", io.ErrUnexpectedEOF)
	}
	return n, err
}

func (st *stream) Close() error {
	if st.reader != nil {
		st.reader.Close()
		st.reader = nil
	}
	return nil
}

// mayTryAgain reports whether a retry may help, which it does not if the store
// would give the same answer.
func mayTryAgain(err error) bool {
	switch gcerrors.Code(err) {
	case gcerrors.NotFound, gcerrors.InvalidArgument, gcerrors.Unimplemented, gcerrors.FailedPrecondition,
		gcerrors.PermissionDenied, gcerrors.Canceled, gcerrors.DeadlineExceeded:
		return false
	}
	return err != ErrReplaced
}
