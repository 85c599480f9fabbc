package attach

import (
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
)

// ErrAbandoned: an upload was given up, because nobody heard of it for the time of
// its lease: its object is deleted or about to be. Upload the file again.
var ErrAbandoned = errors.New("attach: the upload was given up: upload the file again")

// ErrSize: the source has more or fewer bytes than were declared, or more than are
// allowed. Nothing was attached.
var ErrSize = errors.New("attach: the file is not of the size that was declared or allowed")

func configError(format string, args ...any) error {
	return fmt.Errorf("attach: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}

// failed locates an error in an attachment.
func (a *Attachment) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return &kmsencrypted.Error{Op: op, Record: fmt.Sprintf("%s %v", a.Table, a.RecordID), Column: a.place(), Err: err}
}
