package rotation

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Store gives access to the records of one table and to the state of their
// rotation. The state is in the same database, so that both change in one
// transaction. Package sqlstore implements it. It is safe for concurrent use.
//
// A store with a method Hold() (release func()) is told by it that a run or a verification
// begins, and by release that it has ended, so that it may keep connections meanwhile.
type Store interface {
	Records
	Ledger
	Journal
}

// Records reads the records of one table along their primary key.
type Records interface {
	// Table returns the name of the table.
	Table() string
	// Count counts the records by the version of each key column: all, or those of a
	// part of the table ([Options.Part]).
	Count(ctx context.Context, part string) ([]VersionCount, error)
	// Selected counts the records of a selection, ignoring its range and limit.
	Selected(ctx context.Context, s Selection) (int64, error)
	// Ranges divides the primary keys into about n ranges that together contain
	// every record, including later ones. There is at least one.
	Ranges(ctx context.Context, n int) ([]Range, error)
	// Read reads the first records of a selection in the order of their primary
	// keys: as many as the limit of the selection, or fewer if they are large. At
	// the end Batch.More is false.
	Read(ctx context.Context, s Selection) (Batch, error)
}

// VersionCount is the number of records with a key column at a version.
type VersionCount struct {
	Column  string
	Version int  // 0 if HasKey is false
	HasKey  bool // false counts the records whose key column is NULL
	Rows    int64
	// Target is the version that the column should be at, if that is not the target of the
	// run: field.Config.KeyVersions. 0 means that it is.
	Target int
}

// Old reports whether the records have a key at another version than they should, in a run
// to target.
func (c VersionCount) Old(target int) bool {
	return c.HasKey && c.Version != cmp.Or(c.Target, target)
}

// Range is a range of the primary key: keys after After, up to and including To.
// Only the store interprets the texts; an empty one means no bound.
type Range struct{ After, To string }

// Selection selects the records of a range that a kind of rotation to a version
// handles.
type Selection struct {
	Range
	Limit  int // maximum number of records; at least 1
	Kind   Kind
	Target int // version
	// All selects every record of the part.
	All bool
	// RotateOnly means that the records are rotated and not opened, so that a store need
	// not read what the kind does not need.
	RotateOnly bool
	// Part restricts the selection to a part of the table, as in [Options.Part].
	Part string
	// NoJournal keeps no replaced wrapped key, as in [Options.NoJournal].
	NoJournal bool
	// Derived makes Open also compare the columns that are derived from the values of a
	// record, as in [VerifyOptions.Derived].
	Derived bool
}

// Batch is a list of records in memory. It is not safe for concurrent use.
// Records are numbered from 0; from and to select from <= i < to.
type Batch interface {
	Len() int
	// More reports whether the selection may have records after the last one.
	More() bool
	// Last returns the primary key of the last record, as in [Range.After].
	Last() string
	// Keys returns the number of data keys of the records that are not done yet.
	Keys(from, to int) int
	// Rotate moves the records in memory, as the kind of the selection requires, with
	// concurrent calls to the key service. A record that cannot be moved is added to
	// Failures and does not affect the others. An error concerns the whole batch: it is
	// [kmsencrypted.Retryable], or [kmsencrypted.ConcernsAll], or that of ctx. After a
	// retryable error Rotate may be called again and continues with the remaining
	// records. If the error is also [ErrOneProvider], Write may be called without the
	// remaining records, which then count as conflicts.
	Rotate(ctx context.Context, from, to int) error
	// Open opens records without changing anything. The errors are those of Rotate.
	Open(ctx context.Context, from, to int) error
	// Failures returns the records that could not be rotated or opened.
	Failures() []Failure
	// Write writes every record that was rotated and is unchanged since it was read.
	// In the same transaction it writes the failures and the new position of the
	// shard, and extends its lease. If the lease is lost or the run is not active,
	// it writes nothing and returns [ErrLeaseLost]. If another process locks records
	// for too long, it returns [ErrLocked]. Write is called once.
	Write(ctx context.Context, to Position) (Outcome, error)
}

// Position is the position of a shard after a batch.
type Position struct {
	Shard Shard
	After string // primary key of the last record processed; empty means unchanged
	Done  bool   // whether the shard has no more records in this pass
	Lease time.Duration
	// Final turns conflicts into failures, because earlier passes could not resolve
	// them.
	Final bool
	// Calls and Busy are the calls and the time that the batch took until now, for
	// [Status]. The store adds the calls that Write makes.
	Calls int64
	Busy  time.Duration
	// Stages is how the time of the batch was spent. Write is that of batches that were
	// written before, because this one is not yet.
	Stages Stages
	// Allow waits until some of n more calls to the key service may be made, at least
	// one, and returns how many; nil allows all.
	Allow func(ctx context.Context, n int) (some int, err error)
}

// Outcome counts the results for the records of a batch or a run.
type Outcome struct {
	Written   int64 // not counting records that needed no change
	Conflicts int64 // changed or deleted by another process meanwhile; the next pass tries them again
	Failed    int64
}

func (o Outcome) plus(p Outcome) Outcome {
	return Outcome{o.Written + p.Written, o.Conflicts + p.Conflicts, o.Failed + p.Failed}
}

// Failure is a record that could not be rotated or opened. It contains no value
// of an encrypted column.
type Failure struct {
	Record string // its primary key, such as "id=7"
	Class  string // the kind of error in a word, see [FailureClass]
	Err    error
}

// Run is one rotation of a table, from start to end, over all its processes and
// restarts.
type Run struct {
	ID     string
	Kind   Kind
	Target int // version
	Pass   int // from 1
	State  RunState
	// Planned is the number of records selected at the start of the run.
	Planned int64
	// Part is the part of the table that the run handles, as in [Options.Part]; empty
	// means the whole table.
	Part string
	// NoJournal means that the run keeps no replaced wrapped keys.
	NoJournal bool
}

// RunState is the state of a run.
type RunState string

const (
	RunActive   RunState = "active"
	RunPaused   RunState = "paused" // until it is active again
	RunDone     RunState = "done"
	RunCanceled RunState = "canceled"
)

// Unfinished reports whether a run is active or paused.
func (s RunState) Unfinished() bool { return s == RunActive || s == RunPaused }

// Shard is a range of a run that one worker holds.
type Shard struct {
	Run    string
	Number int
	Pass   int
	Range         // After is its position
	Owner  string // of the lease
	// Calls is the number of calls for batches that were not written, for
	// [Ledger.Release].
	Calls int64
}

// Offer is the answer to a request for a shard.
type Offer uint8

const (
	OfferShard    Offer = iota // a shard is available
	OfferWait                  // other workers hold the remaining shards, or the shard is done in this pass
	OfferNextPass              // all shards of this pass are done
	OfferNothing               // the run is over
)

// Ledger stores the state of runs in the database, so that a run survives its
// processes and several of them share the work.
type Ledger interface {
	// Newest returns the status of the latest run of the table, and false if there was none.
	Newest(ctx context.Context) (Status, bool, error)
	// History returns the latest runs of the table, the newest first; a limit of 0
	// returns all.
	History(ctx context.Context, limit int) ([]Status, error)
	// Start starts a run with a shard for each range. It returns
	// [kmsencrypted.ErrConflict] if the table has an active run.
	Start(ctx context.Context, run Run, shards []Range) error
	// Take leases a shard to owner that is free or whose lease has ended: the one
	// with that number, or any for [AnyShard]. Each lease has an owner of its own.
	Take(ctx context.Context, run, owner string, number int, lease time.Duration) (Shard, Offer, error)
	// Keep extends a lease. It returns [ErrLeaseLost] if the lease is lost.
	Keep(ctx context.Context, shard Shard, lease time.Duration) error
	// Release gives a shard back before its lease ends, and adds its Calls to those of
	// the run, also if the lease is lost.
	Release(ctx context.Context, shard Shard) error
	// NextPass ends a pass whose shards are all done. The run is done if the pass
	// neither wrote a record nor met a conflict, and no record is selected any more but
	// those that failed; otherwise all shards start again.
	// For a kind with [Kind.SelectsDone] only shards with a conflict start again.
	// NextPass does nothing if another worker has already ended the pass; ended
	// reports whether this call did.
	NextPass(ctx context.Context, run string, pass int) (ended bool, err error)
	// SetState pauses, resumes or cancels an unfinished run. It does nothing to
	// another run. No batch of an inactive run is written.
	SetState(ctx context.Context, run string, state RunState) error
	// SetWaiting stores the reason why a run waits; empty means that it does not.
	SetWaiting(ctx context.Context, run, reason string) error
	// SetVerified records with the latest run, if that has ended, that all records
	// were found clean now. If clean is false, it removes this record from every run
	// of the table.
	SetVerified(ctx context.Context, clean bool) error
	// FailureCounts returns the number of failed records of the last pass by class.
	FailureCounts(ctx context.Context, run string) (map[string]int64, error)
	// Failures returns failed records of the last pass, in the order of their
	// shards; a limit of 0 returns all. The Err of each is only a text.
	Failures(ctx context.Context, run string, limit int) ([]Failure, error)
}

// Journal stores the wrapped keys that runs replaced, until nothing can need
// them.
type Journal interface {
	// Mend handles some records of a run. It returns where the next call continues,
	// or "" at the end.
	Mend(ctx context.Context, m Mending) (result Healing, next string, err error)
	// Journals lists the runs of the table of which the journal holds keys, the
	// newest first.
	Journals(ctx context.Context) ([]RunJournal, error)
	// Journaled returns the number of journaled keys of the table at a version.
	Journaled(ctx context.Context, version int) (int64, error)
	// ClearJournal erases the keys of verified runs that ended longer ago than grace.
	ClearJournal(ctx context.Context, grace time.Duration) (int64, error)
}

// Mending is a page of the journal of a run.
type Mending struct {
	Run    string
	After  string // where the page begins; empty means at the beginning
	Limit  int    // maximum number of keys; at least 1
	DryRun bool
}

// ErrLeaseLost reports that a shard is not held any more: its lease ended and
// another worker took it, or the run was paused or cancelled. Nothing of the
// batch was written.
var ErrLeaseLost = errors.New("lease of the shard was lost")

// ErrLocked reports that another process locked records for longer than a batch
// waits. Nothing of the batch was written; smaller batches are tried.
var ErrLocked = errors.New("records are locked by another process")

// ErrOneProvider: the key service of some records does not answer, and those of
// others do, because [kmsencrypted.Version.ProviderFor] chooses one for each record.
var ErrOneProvider = errors.New("some records are under a key service that does not answer")

// ErrDatabaseAway: the database cannot be reached, or takes no writes. A run waits
// for it as for a key service.
var ErrDatabaseAway = errors.New("the database cannot be reached")

// failureClasses names errors by which failures are grouped.
var failureClasses = []struct {
	err   error
	class string
}{
	{kmsencrypted.ErrVersionNotActive, "version-not-active"},
	{kmsencrypted.ErrVersionRetired, "version-retired"},
	{kmsencrypted.ErrNeedsRekey, "needs-rekey"},
	{kmsencrypted.ErrNoDataKey, "no-data-key"},
	{kmsencrypted.ErrOtherDataKey, "other-data-key"},
	{kmsencrypted.ErrNotCiphertext, "not-ciphertext"},
	{kmsencrypted.ErrBinding, "binding"},
	{kmsencrypted.ErrRecordSeal, "record-seal"},
	{kmsencrypted.ErrMalformed, "malformed"},
	{kmsencrypted.ErrType, "type"},
	{kmsencrypted.ErrContext, "context"},
	{kmsencrypted.ErrNoID, "no-id"},
	{kmsencrypted.ErrKeyUnusable, "key-unusable"},
	{kmsencrypted.ErrNotMigrated, "not-migrated"},
	{kmsencrypted.ErrStaleIndex, "stale-index"},
	{kmsencrypted.ErrDecrypt, "decrypt"},
	{kmsencrypted.ErrDenied, "denied"},
	{kmsencrypted.ErrThrottled, "throttled"},
	{kmsencrypted.ErrUnavailable, "unavailable"},
	{kmsencrypted.ErrConflict, "conflict"},
}

// FailureClass returns a fixed word for the kind of an error: "decrypt",
// "binding", "malformed" and so on, or "other".
func FailureClass(err error) string {
	for _, c := range failureClasses {
		if errors.Is(err, c.err) {
			return c.class
		}
	}
	return "other"
}
