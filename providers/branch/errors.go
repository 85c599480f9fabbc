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
	// ErrOutside reports that records of a branch have wrapped keys that open without it, so that
	// erasing it would not make them unreadable.
	ErrOutside = errors.New("wrapped keys outside the branch")
	// ErrRestored reports that the key store does not agree with its [Receipts]: it was restored from
	// a backup, and branches that were erased have keys again. It concerns all branches, until
	// [Provider.Replay]: [kmsencrypted.ConcernsAll] returns true for it.
	ErrRestored = concern.All("key store was restored from a backup")
)

// opError adds the key store, the operation and the branch to an error. One of a key
// service keeps its kind, but concerns this branch only.
func (p *Provider) opError(op kmsencrypted.Op, name Name, err error) error {
	if errors.Is(err, ErrRestored) {
		return p.failed(op, err, nil)
	}
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
