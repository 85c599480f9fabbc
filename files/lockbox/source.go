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
	checked     *checked // nil if nobody did
}

// checked is an object that was checked while it came in.
type checked struct {
	*opening
	err error
}

func (s *source) seek(offset int64) error {
	if _, err := s.Seek(s.start+offset, io.SeekStart); err != nil {
		return fullio.Failed(err)
	}
	return nil
}

// rewindable returns src itself if it can seek, and else a temporary file with
// what it gives, which was checked under the codec's current version if that is
// aes-gcm.
func (c *Codec) rewindable(ctx context.Context, src io.Reader, associatedData []byte) (*source, error) {
	if seeker, ok := src.(io.ReadSeeker); ok {
		// A pipe has the method too, and fails.
		if start, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			end, err := seeker.Seek(0, io.SeekEnd)
			if err != nil {
				return nil, fullio.Failed(err)
			}
			return &source{ReadSeeker: seeker, start: start, size: end - start, close: func() {}}, nil
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
	current := (*c.hidden.Get())[0]
	if err := s.spool(ctx, file, src, &current, associatedData); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// spool copies src into the file. Meanwhile it makes v's first pass over it, which
// so needs no reading.
func (s *source) spool(ctx context.Context, file io.Writer, src io.Reader, v *version, associatedData []byte) error {
	buffer := make([]byte, segmentSize+tagSize)
	n, err := s.copy(file, src, buffer[:nonceSize])
	if err == nil && v.key != nil {
		o, err := v.openingUnder(buffer[:nonceSize], associatedData)
		if err != nil {
			return err
		}
		s.checked = &checked{opening: o}
	}
	held := 0 // of the buffer: what may turn out to be the tag
	for err == nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err = s.copy(file, src, buffer[held:])
		if err == nil {
			s.check(buffer[:segmentSize])
			held = copy(buffer, buffer[segmentSize:])
		}
	}
	if err != io.EOF {
		return err
	}
	if end := held + n - tagSize; end >= 0 && s.checked != nil {
		s.check(buffer[:end])
		s.checked.size = s.size - nonceSize - tagSize
		if s.checked.err == nil {
			s.checked.err = s.checked.finish(buffer[end : end+tagSize])
		}
	}
	return nil
}

// copy fills p from src and writes it; io.EOF is what [fullio.Read] means by it.
func (s *source) copy(file io.Writer, src io.Reader, p []byte) (int, error) {
	n, err := fullio.Read(src, p)
	if err != nil && err != io.EOF {
		return n, err
	}
	s.size += int64(n)
	if err := fullio.Write(file, p[:n]); err != nil {
		return n, err
	}
	return n, err
}

func (s *source) check(segment []byte) {
	if s.checked != nil && s.checked.err == nil {
		s.checked.err = s.checked.take(segment)
	}
}

// open gives out what was checked.
func (c *checked) open(ctx context.Context, dst io.Writer, object *source) error {
	defer c.wipe()
	if c.err != nil {
		return c.err
	}
	return c.decrypt(ctx, dst, object)
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
