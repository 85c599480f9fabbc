package lockbox

import (
	"context"
	"io"
	"os"

	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
)

// source is ciphertext that can be read more than once.
type source struct {
	io.ReadSeeker
	start, size int64
	close       func()
}

func (s *source) seek(offset int64) error {
	if _, err := s.Seek(s.start+offset, io.SeekStart); err != nil {
		return fullio.Failed(err)
	}
	return nil
}

// rewindable returns src itself if it can seek, and else a temporary file with
// what it gives.
func (c *Codec) rewindable(ctx context.Context, src io.Reader) (*source, error) {
	if seeker, ok := src.(io.ReadSeeker); ok {
		// A pipe has the method too, and fails.
		if start, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			end, err := seeker.Seek(0, io.SeekEnd)
			if err != nil {
				return nil, fullio.Failed(err)
			}
			return &source{seeker, start, end - start, func() {}}, nil
		}
	}
	file, err := os.CreateTemp(c.tempDir, "lockbox-*")
	if err != nil {
		return nil, err
	}
	s := &source{ReadSeeker: file, close: func() {
		file.Close()
		os.Remove(file.Name())
	}}
	err = eachSegment(ctx, src, make([]byte, segmentSize), func(segment []byte, _ bool) error {
		s.size += int64(len(segment))
		return fullio.Write(file, segment)
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// eachSegment calls f with all that src gives, a buffer at a time. The last call
// may have an empty segment.
func eachSegment(ctx context.Context, src io.Reader, buffer []byte, f func(segment []byte, last bool) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := fullio.Read(src, buffer)
		if err != nil && err != io.EOF {
			return err
		}
		if ferr := f(buffer[:n], err == io.EOF); ferr != nil || err == io.EOF {
			return ferr
		}
	}
}

// readWhole reads at most limit bytes into memory.
func readWhole(ctx context.Context, src io.Reader, limit int64) (whole []byte, err error) {
	buffer := make([]byte, 32<<10)
	defer clear(buffer)
	err = eachSegment(ctx, src, buffer, func(segment []byte, _ bool) error {
		if int64(len(segment)) > limit-int64(len(whole)) {
			return errLarge
		}
		grown := append(whole, segment...)
		if len(whole) > 0 && &grown[0] != &whole[0] {
			clear(whole) // it may be plaintext
		}
		whole = grown
		return nil
	})
	return whole, err
}
