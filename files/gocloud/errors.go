package gocloud

import (
	"errors"
	"fmt"

	"gocloud.dev/gcerrors"

	"github.com/kmsencrypted/kmsencrypted"
)

// What can go wrong beyond the errors of package files, the Box and the store.
// [errors.Is] finds all of them through the errors of a *blob.Bucket.
var (
	// ErrNoKey: the object is there, but the sidecar with its key is not.
	ErrNoKey = errors.New("gocloud: object has no key: its sidecar is missing")
	// ErrReplaced: the object was replaced while it was read. Open it again.
	ErrReplaced = errors.New("gocloud: object was replaced while it was read: open it again")
	// ErrReserved: the key ends like the name of a sidecar.
	ErrReserved = errors.New("gocloud: key is reserved for a sidecar")
	// ErrSignedURL: a link to the store would give out ciphertext, or take plaintext.
	ErrSignedURL = errors.New("gocloud: no signed links to encrypted objects: serve them with package files/serve")
)

// errRaced: whoever else writes to the key did not let us finish.
var errRaced = errors.New("gocloud: object keeps changing")

// codes are what the portable type shows of our errors.
var codes = []struct {
	err  error
	code gcerrors.ErrorCode
}{
	{ErrNoKey, gcerrors.FailedPrecondition},
	{ErrReplaced, gcerrors.FailedPrecondition},
	{errRaced, gcerrors.FailedPrecondition},
	{ErrReserved, gcerrors.InvalidArgument},
	{ErrSignedURL, gcerrors.Unimplemented},
	{kmsencrypted.ErrDenied, gcerrors.PermissionDenied},
	{kmsencrypted.ErrThrottled, gcerrors.ResourceExhausted},
	{kmsencrypted.ErrTooLarge, gcerrors.InvalidArgument},
	{kmsencrypted.ErrContext, gcerrors.InvalidArgument},
	{kmsencrypted.ErrConfig, gcerrors.InvalidArgument},
	{kmsencrypted.ErrDecrypt, gcerrors.FailedPrecondition},
	{kmsencrypted.ErrBinding, gcerrors.FailedPrecondition},
	{kmsencrypted.ErrMalformed, gcerrors.FailedPrecondition},
	{kmsencrypted.ErrNotCiphertext, gcerrors.FailedPrecondition},
	{kmsencrypted.ErrVersionNotActive, gcerrors.FailedPrecondition},
	{kmsencrypted.ErrVersionRetired, gcerrors.FailedPrecondition},
	{kmsencrypted.ErrKeyUnusable, gcerrors.FailedPrecondition},
}

func (d driverBucket) ErrorCode(err error) gcerrors.ErrorCode {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return gcerrors.Code(err)
}

func isNotFound(err error) bool { return gcerrors.Code(err) == gcerrors.NotFound }

// located names the object in errors of methods that no *blob.Bucket wraps.
func located(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("gocloud: %s %q: %w", op, key, err)
}
