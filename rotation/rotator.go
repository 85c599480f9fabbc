package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Options configure a [Rotator]. The zero value rewraps.
type Options struct {
	// Kind is the kind of rotation; empty means [Rewrap].
	Kind Kind
	// WritersAreOurs confirms for a rekey or a migration that everything that changes
	// encrypted columns meanwhile does so through this library, or is stopped. An
	// UPDATE that does not compare the key column would leave a value under the old
	// data key. Without it such a run returns [kmsencrypted.ErrConfig].
	WritersAreOurs bool
	// Part restricts everything to the records of a part of the table; empty means all.
	// The store interprets it: package sqlstore takes an SQL condition, such as
	// "tenant_id = 7", which must come from a trusted source. The primary key must tell
	// the records apart as before, and a record that leaves the part meanwhile is not
	// handled. An unfinished run of a part must be continued with the same Part.
	// A verification of a part is not noted, so no part counts for retiring a version.
	Part string
	// NoJournal keeps no replaced wrapped keys, for a rotation after the master key has
	// leaked: the journal would keep what the thief can open. Then nothing can be healed.
	// An unfinished run that was started without it keeps none from then on.
	NoJournal bool
	// Workers is the number of shards processed concurrently; 0 means 4.
	Workers int
	// Shards is the number of ranges into which a new run divides the table; 0 means
	// 64. Use more than workers, to balance ranges of different sizes.
	Shards int
	// BatchSize is the initial number of records in one transaction; 0 means 1000.
	BatchSize int
	// TargetTime is how long reading and writing a batch should take. The size is
	// adjusted to it, by at most a fifth from one batch to the next and up to 2000 or
	// BatchSize records, whichever is more. The store may limit it further: batches of
	// package sqlstore have at most a few megabytes. 0 means 200 ms; below 0 the size does not
	// change.
	TargetTime time.Duration
	// MaxFailures stops a run after this many failed records in one pass; 0 means 1000,
	// below 0 there is no limit.
	MaxFailures int
	// Limit stops a call of Run after about this many records, within one batch per
	// worker; 0 means no limit. The next call continues.
	Limit int64
	// Calls limits the calls to the key service; nil means no limit. Use [NewLimiter]
	// for one process, sqlstore.NewLimiter for all processes that share a database.
	// [kmsencrypted.Config.Concurrency] of the Box limits the concurrent calls of
	// each worker; use 64 or more for a service that answers in milliseconds.
	Calls Limiter
	// Checks run between batches, for all workers together. The run waits while one
	// of them returns a reason.
	Checks []Check
	// CheckEvery is the time between two rounds of checks; 0 means 1 s.
	CheckEvery time.Duration
	// MaxWait stops a run that has waited this long: with [ErrHeldUp] if a check held
	// it up, or with the key service's error if the service throttled or was
	// unavailable. 0 means no limit for checks, and a minute and a half for a key
	// service.
	MaxWait time.Duration
	// Nice makes a worker sleep after each batch for Nice times the time the batch
	// took: 1 halves the load. 0 means no sleep.
	Nice float64
	// Lease is the time without a sign of life after which another worker may take
	// over a shard; 0 means 30 s.
	Lease time.Duration
	// Observe receives the events of the rotation, on the goroutine where they
	// happen. It must be fast and safe for concurrent use.
	Observe func(Event)
}

// withDefaults also checks the options.
func (o Options) withDefaults() (Options, error) {
	defaults := []struct {
		value *int
		zero  int
	}{{&o.Workers, 4}, {&o.Shards, 64}, {&o.BatchSize, 1000}}
	for _, d := range defaults {
		if *d.value < 0 {
			return o, fmt.Errorf("%w: a negative number of workers, shards or records", kmsencrypted.ErrConfig)
		}
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	if o.MaxFailures == 0 {
		o.MaxFailures = 1000
	}
	if o.Kind == "" {
		o.Kind = Rewrap
	}
	if o.Lease == 0 {
		o.Lease = 30 * time.Second
	}
	if o.TargetTime == 0 {
		o.TargetTime = 200 * time.Millisecond
	}
	if o.CheckEvery == 0 {
		o.CheckEvery = time.Second
	}
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	switch {
	case o.Lease < 0 || o.Limit < 0 || o.CheckEvery < 0 || o.MaxWait < 0 || !(o.Nice >= 0):
		return o, fmt.Errorf("%w: a negative lease, limit, time or Nice", kmsencrypted.ErrConfig)
	}
	return o, o.Kind.check(o.WritersAreOurs)
}

// Rotator moves the records of a table to the current version of a Box. It plans,
// runs, resumes and verifies. It may be stopped at any point, by cancellation or
// because its process dies; another one continues from there. It is safe for
// concurrent use.
//
// Deploy the new version first: listed, so that every process can read it, then as
// current.
type Rotator struct {
	box     *kmsencrypted.Box
	store   Store
	options Options
	// What a process learns of the database outlives a slice.
	brake    *brake
	size     *batchSize
	progress *progress
}

// New returns a Rotator. The store must use the same box. New returns
// [kmsencrypted.ErrConfig] for invalid options and for a nil box or store.
func New(box *kmsencrypted.Box, store Store, options Options) (*Rotator, error) {
	if box == nil || store == nil {
		return nil, fmt.Errorf("rotation: %w: no box or no store", kmsencrypted.ErrConfig)
	}
	options, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("rotation: table %s: %w", store.Table(), err)
	}
	return &Rotator{
		box: box, store: store, options: options,
		progress: new(progress),
		brake:    &brake{turn: make(chan struct{}, 1), checks: options.Checks, every: options.CheckEvery, maxWait: options.MaxWait},
		size:     newBatchSize(options.BatchSize, options.TargetTime),
	}, nil
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Rotator.
func (r *Rotator) usable() error {
	if r == nil || r.store == nil {
		return fmt.Errorf("%w: the Rotator was not made by New", kmsencrypted.ErrConfig)
	}
	return nil
}

// Table is the name of the table that is rotated.
func (r *Rotator) Table() string {
	if r.usable() != nil {
		return ""
	}
	return r.store.Table()
}

// Pause pauses the unfinished run in all processes. They drop the batches they
// hold, and their calls of [Rotator.Run] return [ErrPaused]. Pause does nothing if
// there is no such run.
func (r *Rotator) Pause(ctx context.Context) error { return r.setState(ctx, "pause", RunPaused) }

// Resume makes a paused run active again. Then call [Rotator.Run] again.
func (r *Rotator) Resume(ctx context.Context) error { return r.setState(ctx, "resume", RunActive) }

// Cancel ends the unfinished run for good. What was written stays. The next call
// of [Rotator.Run] starts a new run.
func (r *Rotator) Cancel(ctx context.Context) error { return r.setState(ctx, "cancel", RunCanceled) }

// newest returns the newest run of the table.
func (r *Rotator) newest(ctx context.Context) (Status, bool, error) {
	if err := r.usable(); err != nil {
		return Status{}, false, err
	}
	return r.store.Newest(ctx)
}

func (r *Rotator) setState(ctx context.Context, op string, state RunState) error {
	s, found, err := r.newest(ctx)
	if err == nil && found && s.State.Unfinished() {
		err = r.store.SetState(ctx, s.ID, state)
	}
	return r.failed(op, err)
}

func (r *Rotator) failed(op string, err error) error {
	if err == nil || errors.As(err, new(*kmsencrypted.Error)) {
		return err
	}
	return fmt.Errorf("rotation: %s table %s: %w", op, r.Table(), err)
}

// Event is something that happened in a rotation. It contains nothing secret.
type Event struct {
	Type  EventType
	Table string
	Run   string // empty in a verification
	Pass  int
	Shard int
	// Outcome is that of the batch for [EventBatch], otherwise the total of this call
	// so far.
	Outcome Outcome
	// Stages is how the time of the batch of [EventBatch] was spent.
	Stages Stages
	// Planned is the number of records selected at the start of the run or
	// verification.
	Planned int64
	// Passed is how many of them a verification has read so far, including those that
	// a sample skips.
	Passed int64
	// Elapsed is the time since this call began.
	Elapsed time.Duration
	Failure *Failure // of [EventFailure]
	Err     error    // of [EventThrottled]: the error of the key service
	Reason  string   // of [EventWaiting]: the reason of a check
}

// Stages is the time spent on a batch. The stages of consecutive batches overlap,
// so their sum exceeds the elapsed time.
type Stages struct {
	Read   time.Duration
	Rotate time.Duration // key service, opening and sealing
	Wait   time.Duration // for a limit on calls, and after a key service throttled
	Write  time.Duration
}

// EventType is the kind of a [kmsencrypted.Event].
type EventType string

const (
	EventPlanned   EventType = "planned"
	EventShard     EventType = "shard"      // a shard was taken
	EventBatch     EventType = "batch"      // a batch was written
	EventConflict  EventType = "conflict"   // a batch met rows that had changed
	EventFailure   EventType = "failure"    // a record failed
	EventThrottled EventType = "throttled"  // the key service throttles
	EventWaiting   EventType = "waiting"    // a check holds up the run
	EventGoesOn    EventType = "goes on"    // after EventWaiting
	EventLost      EventType = "lease lost" // a batch was dropped because another worker has the shard
	EventShardDone EventType = "shard done"
	EventPassDone  EventType = "pass done" // sent by the one worker that ended it
	EventDone      EventType = "done"      // a call of Run ends, and no record is left that could be moved
	EventOpened    EventType = "opened"    // by a verification: a batch was opened
	EventVerified  EventType = "verified"
)
