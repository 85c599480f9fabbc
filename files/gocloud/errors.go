package gocloud

import (
	"errors"
	"fmt"

	"gocloud.dev/gcerrors"

	"github.com/kmsencrypted/kmsencrypted"
)

// Errors in addition to those of package files, the Box and the store. [errors.Is]
// finds all of them through the errors of a *blob.Bucket.
var (
	// ErrNoKey reports an object whose sidecar with the key is missing.
	ErrNoKey = errors.New("gocloud: object has no key: its sidecar is missing")
	// ErrReplaced reports an object that was replaced while it was read. Open it
	// again.
	ErrReplaced = errors.New("gocloud: object was replaced while it was read: open it again")
	// ErrReserved reports a key that ends like the name of a sidecar.
	ErrReserved = errors.New("gocloud: key is reserved for a sidecar")
	// ErrSignedURL reports a request for a link to the store, which would return
	// ciphertext or accept plaintext.
	ErrSignedURL = errors.New("gocloud: no signed links to encrypted objects: serve them with package files/serve")
)

// errRaced reports that other writers of the key kept interfering.
var errRaced = errors.New("gocloud: object keeps changing")

// codes maps errors to the error codes of package blob.
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

// located adds the object to errors of methods that package blob does not call.
func located(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("gocloud: %s %q: %w", op, key, err)
}
