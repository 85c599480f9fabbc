package rotation

import "context"

// Erasure says which branches of a [BranchKeeper] an erasure removes from records.
type Erasure struct {
	// Store is the key store, as [BranchKeeper].Branch names it.
	Store string
	// Erased reports whether a branch, as [BranchKeeper].Branch names it, is one of these.
	Erased func(branch string) bool
	// DropOutside lets wrapped keys that are not under the branch of their record become NULL.
	DropOutside bool
	// DryRun counts and changes nothing.
	DryRun bool
}

// Erased is what an erasure found in the records of a table, or would change in a dry run.
type Erased struct {
	Table   string `json:"table"`
	Records int64  `json:"records"` // of the branches
	Indexes int64  `json:"indexes"` // values of blind indexes, which become NULL
	Journal int64  `json:"journal"` // replaced wrapped keys of the journal, which are deleted
	// Moved is how many of those in the journal are under other keys: their records were moved into a
	// branch, and backups from before that open without it.
	Moved int64 `json:"moved,omitempty"`
	// Outside is the number of wrapped keys that are not under the branch of their record, and become NULL.
	Outside int64 `json:"outside,omitempty"`
	// Left is their number without [Erasure].DropOutside: they stay, and open without the branch. So
	// do the blind indexes and the journal of a record that has no other keys.
	Left int64 `json:"left,omitempty"`
}

// BranchEraser removes from the records of a table what an erasure of the keys of branches
// does not reach: values of blind indexes, wrapped keys in the journal, and if that is wanted wrapped keys that are
// not under the branch. A [Store] of package sqlstore is one.
type BranchEraser interface {
	// EraseBranches may be called again, for the same branches too: it then finds what was
	// written meanwhile.
	EraseBranches(context.Context, Erasure) (Erased, error)
}
