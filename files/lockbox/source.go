package lockbox

import (
	"bytes"
	"context"
	"io"
	"os"

	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
)

// source is ciphertext that can be read more than once.
type source struct {
	io.ReadSeeker
	start, size int64
	file        *os.File // a temporary one, or nil
	checked     *checked // nil if it was not checked yet
}

// checked is an object that was checked while it was read.
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

// rewindable returns src itself if it can seek. Otherwise it copies src to memory or
// to a temporary file. If the codec's current version is aes-gcm, it checks the object
// at the same time.
func (c *Codec) rewindable(ctx context.Context, src io.Reader, associatedData []byte) (*source, error) {
	if seeker, ok := src.(io.ReadSeeker); ok {
		// A pipe has the method too, but it fails.
		if start, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			end, err := seeker.Seek(0, io.SeekEnd)
			if err != nil {
				return nil, fullio.Failed(err)
			}
			return &source{ReadSeeker: seeker, start: start, size: end - start}, nil
		}
	}
	current := &(*c.hidden.Get())[0]
	s := new(source)
	if err := s.spool(ctx, src, c.tempDir, current, associatedData); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// spoolSize is the size of each write to the temporary file. Writes begin at multiples
// of it, because the kernel takes twice as long for writes that begin or end within a
// page. An object of at most this size needs no file.
const spoolSize = 4 * segmentSize

// spool reads src to its end. Meanwhile it makes v's first pass, which so needs no
// reading of its own.
func (s *source) spool(ctx context.Context, src io.Reader, tempDir string, v *version, associatedData []byte) error {
	// The buffer begins with bytes of the last read whose segment may not be complete:
	// they may contain the tag.
	buffer := make([]byte, segmentSize+spoolSize)
	fresh, rest := buffer[segmentSize:], segmentSize
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := fullio.Read(src, fresh)
		ended := err == io.EOF
		if err != nil && !ended {
			return err
		}
		if s.size == 0 && v.key != nil && n >= nonceSize {
			o, err := v.openingUnder(fresh[:nonceSize], associatedData)
			if err != nil {
				return err
			}
			s.checked = &checked{opening: o}
			rest += nonceSize
		}
		if err := s.keep(fresh[:n], ended, tempDir); err != nil {
			return err
		}
		end := segmentSize + n
		for ; end-rest >= segmentSize+tagSize; rest += segmentSize {
			s.check(buffer[rest : rest+segmentSize])
		}
		if ended {
			s.finish(buffer[rest:end])
			return nil
		}
		rest = segmentSize - copy(buffer[segmentSize-(end-rest):], buffer[rest:end])
	}
}

// keep stores bytes that were read.
func (s *source) keep(p []byte, ended bool, tempDir string) error {
	s.size += int64(len(p))
	if s.file == nil {
		if ended {
			s.ReadSeeker = bytes.NewReader(p)
			return nil
		}
		file, err := os.CreateTemp(tempDir, "lockbox-*")
		if err != nil {
			return err
		}
		s.file, s.ReadSeeker = file, file
	}
	return fullio.Write(s.file, p)
}

// close removes the temporary file, if there is one.
func (s *source) close() {
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name())
	}
}

// finish ends the first pass with what may be the last segment and the tag.
func (s *source) finish(rest []byte) {
	c := s.checked
	if c == nil || c.err != nil || len(rest) < tagSize {
		return
	}
	c.size = s.size - nonceSize - tagSize
	end := len(rest) - tagSize
	if c.err = c.take(rest[:end]); c.err == nil {
		c.err = c.finish(rest[end:])
	}
}

func (s *source) check(segment []byte) {
	if s.checked != nil && s.checked.err == nil {
		s.checked.err = s.checked.take(segment)
	}
}

// open writes the plaintext of an object that was checked.
func (c *checked) open(ctx context.Context, dst io.Writer, object *source) error {
	defer c.wipe()
	if c.err != nil {
		return c.err
	}
	return c.decrypt(ctx, dst, object)
}

// eachSegment calls f with everything from src, one buffer at a time. The last
// segment may be empty.
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
