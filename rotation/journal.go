package rotation

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// BranchKeeper is an optional ability of a provider that wraps under keys of its own, one
// for each branch of the records, such as a tenant. The journal notes where each
// replaced wrapped key belongs, so that an erasure of the branch can delete it.
type BranchKeeper interface {
	kmsencrypted.Provider
	// Branch names the branch that an encryption context chooses, and the store that
	// keeps its key. Both are empty for a context without a branch. Branch makes no call.
	Branch(kmsencrypted.BoundContext) (store, branch string)
}

// RunJournal is what the journal holds of one run: the wrapped keys that it
// replaced.
type RunJournal struct {
	Run
	Keys int64
	// Since is the time since the run ended, by the clock of the database; 0 if it has
	// not ended.
	Since time.Duration
	// Verified means that a verification of all records was clean after the run.
	Verified bool
}

// Journals lists the runs of which the journal still holds replaced keys, the newest
// first. [Rotator.Heal] takes the id of one whose [Kind.Journals] is true.
func (r *Rotator) Journals(ctx context.Context) ([]RunJournal, error) {
	if err := r.usable(); err != nil {
		return nil, r.failed("read the journal of", err)
	}
	list, err := r.store.Journals(ctx)
	return list, r.failed("read the journal of", err)
}

// ClearJournal erases the replaced wrapped keys of runs that ended before the
// grace time and after which a verification was clean ([VerifyOptions.Note]). It
// returns their number. [Rotator.Journals] lists what remains. Choose a long grace
// time if something else may need the keys: files that are moved after their record,
// or backups that may be restored. ClearJournal returns [kmsencrypted.ErrConfig] for
// a negative grace time.
func (r *Rotator) ClearJournal(ctx context.Context, grace time.Duration) (int64, error) {
	if err := r.usable(); err != nil {
		return 0, r.failed("clear the journal of the", err)
	}
	if grace < 0 {
		return 0, r.failed("clear the journal of the", fmt.Errorf("%w: a negative grace time", kmsencrypted.ErrConfig))
	}
	n, err := r.store.ClearJournal(ctx, grace)
	return n, r.failed("clear the journal of the", err)
}
