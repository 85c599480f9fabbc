package s3client

import (
	"io"
	"slices"

	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
)

// parts cuts a body into parts of one size, of which one at a time is in memory.
type parts struct {
	body   io.Reader
	size   int    // of a part
	buffer []byte // grows up to the size, unless the size of the body is known
	ahead  []byte // a byte that was read to see whether another part follows
}

// firstRead is the size in bytes of the buffer at the beginning if the size of the body
// is not known.
const firstRead = 256 << 10

// newParts takes the size of the body in bytes, or -1 if it is not known.
func newParts(body io.Reader, size, partSize int64) *parts {
	partSize = max(partSize, (size+maxParts-1)/maxParts)
	if size < 0 {
		size = firstRead
	}
	return &parts{body: body, size: int(partSize), buffer: make([]byte, 0, max(1, min(size, partSize)))}
}

// next returns the next part and whether it is the last one. The part is valid until the
// next call.
func (p *parts) next() (part []byte, last bool, err error) {
	part = append(p.buffer[:0], p.ahead...)
	for {
		n, err := fullio.Read(p.body, part[len(part):min(cap(part), p.size)])
		part = part[:len(part)+n]
		if err == nil {
			p.ahead = make([]byte, 1)
			_, err = fullio.Read(p.body, p.ahead)
		}
		switch {
		case err == io.EOF:
			return part, true, nil
		case err != nil:
			return nil, false, err
		case len(part) == p.size:
			p.buffer = part
			return part, false, nil
		}
		part = append(slices.Grow(part, min(len(part), p.size-len(part))), p.ahead...)
	}
}
