package serve

import (
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// source records why reading failed, because [http.ServeContent] does not report it.
// ServeContent reads several ranges on a goroutine of its own.
type source struct {
	File
	mu  sync.Mutex
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.File.Read(p)
	if err != nil && err != io.EOF {
		s.note(err)
	}
	return n, err
}

func (s *source) Seek(offset int64, whence int) (int64, error) {
	at, err := s.File.Seek(offset, whence)
	if err != nil {
		s.note(err)
	}
	return at, err
}

func (s *source) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *source) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// client is the connection to the client. It is closed if the client reads nothing
// for too long.
type client struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration

	progress func(done, total int64) // nil unless a file is sent and somebody asked
	done     int64
}

// WriteHeader ends the progress for an answer that is no file.
func (c *client) WriteHeader(status int) {
	if status != http.StatusOK && status != http.StatusPartialContent {
		c.progress = nil
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *client) Write(p []byte) (int, error) {
	if c.stall > 0 {
		// A server behind other middleware may not support deadlines; then its own apply.
		c.control.SetWriteDeadline(time.Now().Add(c.stall))
	}
	n, err := c.ResponseWriter.Write(p)
	if c.done += int64(n); c.progress != nil && n > 0 {
		total, _ := strconv.ParseInt(c.Header().Get("Content-Length"), 10, 64) // ServeContent sets it
		c.progress(c.done, total)
	}
	return n, err
}

// transferSize is the number of bytes decrypted and written at once: 16 chunks, so
// that a range that begins inside a chunk decrypts little twice.
const transferSize = 256 << 10

var transfers = sync.Pool{New: func() any { return new([transferSize]byte) }}

// ReadFrom copies in larger steps than package http would.
func (c *client) ReadFrom(r io.Reader) (n int64, err error) {
	buffer := transfers.Get().(*[transferSize]byte)
	defer func() {
		clear(buffer[:]) // plaintext
		transfers.Put(buffer)
	}()
	for {
		got, readErr := r.Read(buffer[:])
		if got > 0 {
			wrote, err := c.Write(buffer[:got])
			n += int64(wrote)
			if err != nil {
				return n, err
			}
		}
		if readErr == io.EOF {
			return n, nil
		} else if readErr != nil {
			return n, readErr
		}
	}
}

// Unwrap is called by [http.ResponseController].
func (c *client) Unwrap() http.ResponseWriter { return c.ResponseWriter }
