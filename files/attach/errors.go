package attach

import (
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/concern"
)

// ErrAbandoned reports an upload that was given up because its lease ended. Its
// object is deleted or about to be. Upload the file again.
var ErrAbandoned = errors.New("attach: the upload was given up: upload the file again")

// ErrSize reports a source with more or fewer bytes than declared, or more than
// allowed. Nothing was attached.
var ErrSize = errors.New("attach: the file does not have the declared size, or is too large")

// ErrPartChanged reports a part of an upload that was sent before with other bytes. It was
// not stored: two contents under one nonce would reveal each other. Begin a new upload.
var ErrPartChanged = errors.New("attach: the part was sent before with other bytes: begin a new upload")

// ErrPartMissing reports an upload of which the store lacks a part, or has another content of
// one. Send what [Manager.MissingParts] returns, and finish the upload then.
var ErrPartMissing = errors.New("attach: the store does not have all parts of the upload")

// ErrStore reports that an object was not found, and neither was the store that the database
// knows under the name of the bucket: a folder that is not mounted, or another one. The file
// may well exist. [kmsencrypted.Retryable] returns true for it.
var ErrStore = concern.Later("attach: the bucket is not the store that has the files: is it mounted?")

var errOtherRecord = fmt.Errorf("%w: the attachment belongs to another record", kmsencrypted.ErrConfig)

var errTaken = fmt.Errorf("%w: the record has a file there already: use Replace, or delete it first, in the same transaction", kmsencrypted.ErrConflict)

var errDerived = fmt.Errorf("%w: there is a derived file of this variant already: delete it first, in the same transaction", kmsencrypted.ErrConflict)

var errOtherTable = fmt.Errorf("%w: the attachment belongs to a record of another table", kmsencrypted.ErrConfig)

// errInterrupted is the error of a source that panicked or ended its goroutine.
var errInterrupted = errors.New("attach: the source did not return")

func configError(format string, args ...any) error {
	return fmt.Errorf("attach: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}

// failed adds the attachment to an error.
func (a *Attachment) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return &kmsencrypted.Error{Op: op, Record: fmt.Sprintf("%s %v", a.Table, a.RecordID), Column: a.place(), Err: err}
}
