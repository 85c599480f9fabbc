// Package filelock keeps two processes of one machine from changing the same files at
// once. A lock ends with its process.
package filelock

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// retryPause is how long to wait for a lock before the next attempt.
const retryPause = 5 * time.Millisecond

// handedOver orders the goroutines of this process that hold a lock one after another. The
// system's lock excludes them, but Go's memory model does not know it: what one wrote into
// memory would not have to be there for the next.
var handedOver atomic.Int64

// Lock takes the lock of the file at path. It creates the file if there is none, and
// nobody may remove it. It waits for other processes and for other calls in this one. The error
// is that of ctx or of the file system, or [errors.ErrUnsupported] on a system without locks.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		file, err := attempt(path)
		if err != nil {
			return nil, err
		}
		if file != nil {
			handedOver.Add(1)
			return func() {
				handedOver.Add(1)
				file.Close()
			}, nil
		}
		if err := sleep.For(ctx, retryPause); err != nil {
			return nil, err
		}
	}
}
