package branch

import (
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/concern"
)

// Errors of branches, for [errors.Is]. They concern the records of one branch, and say
// nothing about the key service.
var (
	// ErrErased reports that the keys of the branch were erased, or are being erased. It
	// is final: no other wrap of the record is tried.
	ErrErased = errors.New("branch is erased")
	// ErrMissing reports that the key store has no row for the version, or an older state
	// than it had before. It is [kmsencrypted.Retryable]: a replica lags, or a restore is
	// under way.
	ErrMissing = concern.Later("no such branch key in the key store")
)

// opError adds the key store, the operation and the branch to an error. One of a key
// service keeps its kind, but concerns this branch only.
func (p *Provider) opError(op kmsencrypted.Op, name Name, err error) error {
	kind, cause := err, error(nil)
	if known, ok := errors.AsType[*kmsencrypted.Error](err); ok {
		kind, cause = known.Err, known.Cause
	}
	where := fmt.Errorf("branch %s", name)
	if cause != nil {
		where = fmt.Errorf("branch %s: %w", name, cause)
	}
	return p.failed(op, kind, concern.Some(where))
}

func (p *Provider) failed(op kmsencrypted.Op, kind, cause error) error {
	info := p.Info()
	return &kmsencrypted.Error{Op: string(op), Provider: info.Provider, KeyID: info.KeyID, Err: kind, Cause: cause}
}
