package files

import (
	"fmt"
	"io/fs"

	"github.com/kmsencrypted/kmsencrypted"
)

// ErrTruncated reports an object that ends before its last chunk. It also
// matches [kmsencrypted.ErrMalformed]. An object that was cut inside a chunk
// looks like one that was changed there: both return [kmsencrypted.ErrDecrypt].
var ErrTruncated = malformed("object is cut short")

var (
	errHeader = fmt.Errorf("files: header: %w", kmsencrypted.ErrDecrypt)
	errSize   = fmt.Errorf("files: %w: more than 2^32 chunks", kmsencrypted.ErrTooLarge)
	errClosed = fmt.Errorf("files: writer: %w", fs.ErrClosed)
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("files: %w: %s", kmsencrypted.ErrMalformed, fmt.Sprintf(format, args...))
}

func configError(format string, args ...any) error {
	return fmt.Errorf("files: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}
