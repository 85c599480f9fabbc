// Package fullio reads and writes whole buffers, and never mistakes a source that
// failed for one that ended.
package fullio

import (
	"errors"
	"fmt"
	"io"
)

// ErrCount reports a reader that broke its contract.
var ErrCount = errors.New("a reader returned an impossible count")

// patience is the number of empty reads in a row that is too many, as in package
// bufio.
const patience = 100

// Read reads until p is full. It returns [io.EOF] itself only if the source ended
// before. [io.ReadFull] cannot distinguish a source that ended from one that failed
// with [io.ErrUnexpectedEOF], as a broken upload does. Other errors are wrapped.
func Read(r io.Reader, p []byte) (n int, err error) {
	for empty := 0; n < len(p); {
		m, err := r.Read(p[n:])
		if m < 0 || m > len(p)-n {
			return n, Failed(ErrCount)
		}
		n += m
		if empty++; m > 0 {
			empty = 0
		}
		switch {
		case n == len(p) && err == io.EOF: // the next call returns io.EOF
		case err == io.EOF:
			return n, err
		case err != nil:
			return n, Failed(err)
		case empty == patience:
			return n, Failed(io.ErrNoProgress)
		}
	}
	return n, nil
}

// Failed wraps the error of a source.
func Failed(err error) error { return fmt.Errorf("files: reading: %w", err) }

// Write writes p and reports a short write as an error.
func Write(w io.Writer, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	n, err := w.Write(p)
	if err == nil && n != len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("files: writing: %w", err)
	}
	return nil
}
