package s3ec

import (
	"context"
	"crypto/rand"
	"io"

	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
	"github.com/kmsencrypted/kmsencrypted/internal/gcmstream"
)

func randomBytes(n int) []byte {
	out := make([]byte, n)
	rand.Read(out)
	return out
}

// sealer reads a file and returns the ciphertext and its tag.
type sealer struct {
	ctx     context.Context
	src     io.Reader
	message *gcmstream.Message
	size    int64 // announced; -1 if it is not known
	total   int64
	buffer  []byte
	ready   []byte // of the buffer, not returned yet
	err     error  // after what is ready
	head    []byte // the first bytes that were returned, at most headSize
}

// headSize is the number of bytes by which an object is recognized: the shortest object is
// the tag of an empty file.
const headSize = tagSize

func newSealer(ctx context.Context, src io.Reader, size int64, message *gcmstream.Message) *sealer {
	n := int64(segmentSize)
	if size >= 0 {
		n = min(n, size+1) // one more, to notice the end at once
	}
	return &sealer{ctx: ctx, src: src, message: message, size: size, buffer: make([]byte, n, n+tagSize)}
}

func (s *sealer) Read(p []byte) (int, error) {
	for len(s.ready) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.ready, s.err = s.next()
	}
	n := copy(p, s.ready)
	s.ready = s.ready[n:]
	s.head = append(s.head, p[:min(n, headSize-len(s.head))]...)
	return n, nil
}

// next encrypts the next segment. With the last one it returns the tag and [io.EOF].
func (s *sealer) next() ([]byte, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	n, err := fullio.Read(s.src, s.buffer)
	if err != nil && err != io.EOF {
		clear(s.buffer)
		return nil, err
	}
	segment := s.buffer[:n]
	s.total += int64(n)
	ended := err == io.EOF
	if s.size >= 0 && (s.total > s.size || ended && s.total < s.size) {
		clear(segment)
		return nil, ErrSize
	}
	if err := s.message.Encrypt(segment, segment); err != nil {
		clear(segment)
		return nil, errLarge
	}
	if !ended {
		return segment, nil
	}
	tag := s.message.Tag()
	return append(segment, tag[:]...), io.EOF
}
