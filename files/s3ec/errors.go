package s3ec

import (
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
)

var (
	// ErrLegacy reports an object in a format without authentication (V1), which is read
	// only with [Options.LegacyRead].
	ErrLegacy = errors.New("object is in the legacy format V1, whose content is not authenticated: set LegacyRead to read it")
	// ErrSize reports a source with more or fewer bytes than its announced size.
	ErrSize = errors.New("source does not have the announced size")
	// ErrDigest reports that the store received other bytes than were sent.
	ErrDigest = errors.New("store received other bytes than were sent")

	errDecrypt  = fmt.Errorf("object %w", kmsencrypted.ErrDecrypt)
	errChanged  = fmt.Errorf("object was replaced while it was read: %w", kmsencrypted.ErrDecrypt)
	errExpected = fmt.Errorf("object is not the one with the expected size and MD5: %w", kmsencrypted.ErrDecrypt)
	errContext  = fmt.Errorf("object has another encryption context than expected: %w", kmsencrypted.ErrBinding)
	errLarge    = fmt.Errorf("object: %w: AES-GCM encrypts at most 2^36-32 bytes", kmsencrypted.ErrTooLarge)
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("envelope: %w: %s", kmsencrypted.ErrMalformed, fmt.Sprintf(format, args...))
}

func configError(format string, args ...any) error {
	return fmt.Errorf("s3ec: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}

// failed adds operation and object to an error.
func failed(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("s3ec: %s %q: %w", op, key, err)
}
