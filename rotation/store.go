package rotation

import (
	"context"
	"errors"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Store is the records of one table together with the state of their rotation,
// which lies in the same database so that both change in one transaction. The
// package sqlstore implements it. It is safe for concurrent use.
type Store interface {
	Records
	Ledger
	Journal
}

// Records reads the records of one table along their primary key.
type Records interface {
	// Table is the name of the table.
	Table() string
	// Count counts the records by the version of each key column.
	Count(ctx context.Context) ([]VersionCount, error)
	// Selected counts the records of a selection, whatever its range and limit.
	Selected(ctx context.Context, s Selection) (int64, error)
	// Ranges cuts the primary keys into about n ranges that together hold every
	// record, also one that is inserted later. There is at least one.
	Ranges(ctx context.Context, n int) ([]Range, error)
	// Read reads the first records of a selection in the order of their primary
	// keys. A batch without records is the end.
	Read(ctx context.Context, s Selection) (Batch, error)
}

// VersionCount is how many records have a key column at a version.
type VersionCount struct {
	Column  string
	Version int  // 0 where HasKey is false
	HasKey  bool // false counts the records whose key column is NULL
	Rows    int64
}

// Range is a piece of the primary key: what comes after After, up to and
// including To. Both are texts that only the store understands; an empty one
// sets no bound.
type Range struct{ After, To string }

// Selection is what to read of a table: the records of a range that a kind of
// rotation to a version deals with.
type Selection struct {
	Range
	Limit  int // records; at least 1
	Kind   Kind
	Target int // version
	// All selects every record.
	All bool
	// Derived lets Open also compare what is made of the values of a record, as
	// [VerifyOptions.Derived] says.
	Derived bool
}

// Batch is some records in memory. It is not safe for concurrent use. Records
// count from 0, and from and to mean those at from <= i < to.
type Batch interface {
	Len() int
	// Last is the primary key of the last record, as [Range.After].
	Last() string
	// Keys is how many data keys the records have that are still to be dealt with.
	Keys(from, to int) int
	// Rotate does in memory what the kind of the selection does, with the calls to
	// the key service side by side. A record that cannot be moved becomes one of
	// the Failures and does not spoil the others. The error concerns the whole
	// batch: it is [kmsencrypted.Retryable], or [kmsencrypted.ConcernsAll], or that of ctx. After a
	// retryable one Rotate may be called again and goes on with what is left. If it
	// is also [ErrOneProvider], Write may be called without what is left, which then
	// counts as conflicts.
	Rotate(ctx context.Context, from, to int) error
	// Open opens records without changing anything, with the errors of Rotate.
	Open(ctx context.Context, from, to int) error
	// Failures are the records that could not be rotated or opened.
	Failures() []Failure
	// Write writes every record that was rotated and is still what was read, and
	// in the same transaction the failures and the new position of the shard,
	// whose lease it extends. If the lease is no longer held, or the run no longer
	// active, nothing is written and the error is [ErrLeaseLost]; if somebody locks
	// records for too long it is [ErrLocked]. Write is called once.
	Write(ctx context.Context, to Position) (Outcome, error)
}

// Position is how far a shard has come after a batch.
type Position struct {
	Shard Shard
	After string // primary key of the last record that was dealt with; empty: unchanged
	Done  bool   // the shard has no more records in this pass
	Lease time.Duration
	// Final makes failures of what would be conflicts, because earlier passes got
	// no further with them.
	Final bool
	// Calls and Busy are what the batch took, for [Status].
	Calls int64
	Busy  time.Duration
}

// Outcome counts what became of the records of a batch or a run.
type Outcome struct {
	Written   int64 // records that needed nothing do not count
	Conflicts int64 // changed or deleted by somebody else meanwhile; the next pass meets them again
	Failed    int64
}

func (o Outcome) plus(p Outcome) Outcome {
	return Outcome{o.Written + p.Written, o.Conflicts + p.Conflicts, o.Failed + p.Failed}
}

// Failure is a record that could not be rotated or opened. It holds no value of
// an encrypted column.
type Failure struct {
	Record string // its primary key, such as "id=7"
	Class  string // the kind of error in a word, see [FailureClass]
	Err    error
}

// Run is one rotation of a table, from its beginning to its end, however many
// processes and restarts that takes.
type Run struct {
	ID     string
	Kind   Kind
	Target int // version
	Pass   int // from 1
	State  RunState
	// Planned is how many records were selected when the run began.
	Planned int64
}

// RunState says whether a run goes on.
type RunState string

const (
	RunActive   RunState = "active"
	RunPaused   RunState = "paused" // goes on when it is active again
	RunDone     RunState = "done"
	RunCanceled RunState = "canceled"
)

// Unfinished reports whether a run may go on.
func (s RunState) Unfinished() bool { return s == RunActive || s == RunPaused }

// Shard is a range of a run that one worker holds.
type Shard struct {
	Run    string
	Number int
	Pass   int
	Range         // After is how far it has come
	Owner  string // who holds it
}

// Offer answers the question for a shard.
type Offer uint8

const (
	OfferShard    Offer = iota // here is one
	OfferWait                  // others hold what is left, or the shard is done in this pass
	OfferNextPass              // all shards of this pass are done
	OfferNothing               // the run is over
)

// Ledger keeps the state of runs. All of it lies in the database, so that a run
// survives its processes and several of them share the work.
type Ledger interface {
	// Newest returns the status of the latest run of the table, and false if there was none.
	Newest(ctx context.Context) (Status, bool, error)
	// History lists the latest runs of the table, the newest first; 0 lists all.
	History(ctx context.Context, limit int) ([]Status, error)
	// Start begins a run with a shard for each range. If the table has an active
	// run the error is [kmsencrypted.ErrConflict].
	Start(ctx context.Context, run Run, shards []Range) error
	// Take leases a shard that nobody holds, or whose lease is over, to owner:
	// the one of that number, or [AnyShard].
	Take(ctx context.Context, run, owner string, number int, lease time.Duration) (Shard, Offer, error)
	// Keep extends a lease; [ErrLeaseLost] if it is not held any more.
	Keep(ctx context.Context, shard Shard, lease time.Duration) error
	// Release gives a shard back before its lease is over.
	Release(ctx context.Context, shard Shard) error
	// NextPass ends a pass whose shards are all done: the run is done if the
	// pass neither wrote a record nor met a conflict, else all shards begin
	// again. Of a kind that [Kind.SelectsDone] only shards that met a
	// conflict begin again. It does nothing if somebody else did it already;
	// ended says that it was this call that ended the pass.
	NextPass(ctx context.Context, run string, pass int) (ended bool, err error)
	// SetState pauses, resumes or cancels an unfinished run; it does nothing to
	// another. Once it is not active, no batch of it is written.
	SetState(ctx context.Context, run string, state RunState) error
	// SetWaiting keeps the reason why a run waits, empty for none.
	SetWaiting(ctx context.Context, run, reason string) error
	// SetVerified keeps with the latest run, if there is one and it has ended, that
	// all records were found to be clean now. If one was not, it takes back what was
	// kept with any run of the table.
	SetVerified(ctx context.Context, clean bool) error
	// FailureCounts counts the failed records of the last pass by their class.
	FailureCounts(ctx context.Context, run string) (map[string]int64, error)
	// Failures lists failed records of the last pass, in the order of their
	// shards; a limit of 0 lists all. Err of each is only a text.
	Failures(ctx context.Context, run string, limit int) ([]Failure, error)
}

// Journal keeps the wrapped keys that runs replaced, until nothing can need them.
type Journal interface {
	// Mend looks at some records of a run, and returns where to go on, empty for
	// the end.
	Mend(ctx context.Context, m Mending) (result Healing, next string, err error)
	// Journaled counts the keys of the table at a version.
	Journaled(ctx context.Context, version int) (int64, error)
	// ClearJournal erases the keys of verified runs that ended longer ago than grace.
	ClearJournal(ctx context.Context, grace time.Duration) (int64, error)
}

// Mending is a page of the journal of a run.
type Mending struct {
	Run    string
	After  string // where the page begins; empty: at the beginning
	Limit  int    // keys; at least 1
	DryRun bool
}

// ErrLeaseLost: a shard is not held any more, because it was not heard of for
// the time of its lease and somebody else took it, or because the run was paused
// or cancelled. Nothing of the batch was written.
var ErrLeaseLost = errors.New("lease of the shard was lost")

// ErrLocked: somebody else locked records for longer than a batch waits. Nothing
// of it was written; smaller ones are tried.
var ErrLocked = errors.New("records are locked by somebody else")

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

// FailureClass is a fixed word for what is wrong with a record: "decrypt",
// "binding", "malformed" and so on; "other" for what has none.
func FailureClass(err error) string {
	for _, c := range failureClasses {
		if errors.Is(err, c.err) {
			return c.class
		}
	}
	return "other"
}
