package s3ec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
)

// ErrReplaced is returned by [Store.Get] if the object is no longer the one that was
// asked for.
var ErrReplaced = errors.New("object was replaced")

const (
	// A request covers minWindow bytes, and twice as many each time reads go on where the
	// last request ended.
	minWindow = segmentSize
	maxWindow = 64 * segmentSize
	// maxResumes is how often in a row a transfer is resumed that gave no byte.
	maxResumes = 2
)

// remote reads one version of an object. Sequential reads share requests.
type remote struct {
	ctx     context.Context
	store   Store
	key     string
	version Version
	size    int64

	body    io.ReadCloser // of a request, or nil
	at, end int64         // what the body has not returned yet
	window  int64         // of the last request
}

// read fills p with the bytes at an offset.
func (r *remote) read(p []byte, offset int64) error {
	if offset != r.at {
		r.close()
		r.at, r.end, r.window = offset, offset, minWindow/2
	}
	for failures := 0; len(p) > 0; {
		if r.at == r.end {
			r.window = min(2*r.window, maxWindow)
			r.end = min(r.at+max(r.window, int64(len(p))), r.size)
		}
		n, err := r.some(p)
		if p = p[n:]; n > 0 {
			failures = 0
		}
		if err == nil {
			continue
		}
		r.close()
		if failures++; failures > maxResumes || !mayResume(r.ctx, err) {
			return err
		}
	}
	return nil
}

// restart makes the next request one for everything from an offset.
func (r *remote) restart(offset int64) {
	r.close()
	r.at, r.end = offset, r.size
}

// some reads at least one byte or returns an error.
func (r *remote) some(p []byte) (int, error) {
	if r.body == nil {
		object, err := r.store.Get(r.ctx, r.key, Range{Offset: r.at, Length: r.end - r.at, Version: r.version})
		if errors.Is(err, ErrReplaced) || errors.Is(err, fs.ErrNotExist) {
			return 0, errChanged
		}
		if err != nil {
			return 0, err
		}
		r.body = object.Body
		if object.Version != r.version || object.Size != r.end-r.at {
			return 0, errChanged
		}
	}
	n, err := fullio.Read(r.body, p[:min(int64(len(p)), r.end-r.at)])
	r.at += int64(n)
	if err == io.EOF {
		err = fmt.Errorf("the store's answer is too short: %w", io.ErrUnexpectedEOF)
	}
	if err == nil && r.at == r.end {
		r.close()
	}
	return n, err
}

func mayResume(ctx context.Context, err error) bool {
	return ctx.Err() == nil && err != errChanged
}

func (r *remote) close() {
	if r.body != nil {
		r.body.Close()
		r.body = nil
	}
}
