// Package filelock keeps two processes of one machine from changing the same files at
// once. A lock ends with its process.
package filelock

import (
	"context"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// retryPause is how long to wait for a lock before the next attempt.
const retryPause = 5 * time.Millisecond

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
			return func() { file.Close() }, nil
		}
		if err := sleep.For(ctx, retryPause); err != nil {
			return nil, err
		}
	}
}
