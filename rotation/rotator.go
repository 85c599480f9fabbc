package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Options says how a [Rotator] works. The zero value rewraps.
type Options struct {
	// Kind is what to do; empty is [Rewrap].
	Kind Kind
	// WritersAreOurs confirms for a rekey or a migration that whoever changes encrypted columns
	// meanwhile does so through this library, or is stopped: an UPDATE that does
	// not compare the key column would leave a value under the old data key.
	// Such a run without it is [kmsencrypted.ErrConfig].
	WritersAreOurs bool
	// Workers is how many shards are worked on side by side; 0 is 4.
	Workers int
	// Shards is into how many ranges a new run cuts the table; 0 is 64. More than
	// workers, so that uneven ones do not matter.
	Shards int
	// BatchSize is records in one transaction, to begin with; 0 is 1000.
	BatchSize int
	// TargetTime is how long reading and writing a batch should take: its size is
	// steered there, by a fifth at most from one batch to the next and to no more
	// than 2000 or BatchSize records. 0 is 200 ms, below 0 the size stays.
	TargetTime time.Duration
	// MaxFailures stops a run after so many failed records; 0 is 1000, below 0
	// there is no limit.
	MaxFailures int
	// Limit stops a call of Run after about so many records, to within a batch
	// for each worker; 0 is no limit. The next call goes on from there.
	Limit int64
	// Calls bounds the calls to the key service; nil is no bound. [NewLimiter] is
	// for one process, sqlstore.NewLimiter for all that share a database. How many
	// calls are on their way at a time is [kmsencrypted.Config.Concurrency] of the Box for each
	// worker; with a service that answers in milliseconds, 64 or more.
	Calls Limiter
	// Checks are made between batches, for all workers together: as long as one
	// gives a reason the run waits.
	Checks []Check
	// CheckEvery is the time between two rounds of checks; 0 is 1 s.
	CheckEvery time.Duration
	// MaxWait stops a run that had to wait for so long: for a check with
	// [ErrHeldUp], for a key service that throttles or does not answer with its
	// error. 0 waits for checks for ever, and for a key service a minute and a half.
	MaxWait time.Duration
	// Nice lets a worker sleep after each batch for so many times as long as it
	// worked: 1 halves the load. 0 does not.
	Nice float64
	// Lease is after how long without a sign of life a shard may be taken by
	// another worker; 0 is 30 s.
	Lease time.Duration
	// Observe is told what happens, on the goroutine where it happens. It must be
	// safe for concurrent use and quick.
	Observe func(Event)
}

// withDefaults also finds mistakes.
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

// Rotator moves the records of a table to the current version of a Box: it plans,
// runs, resumes and verifies. It may be stopped at any point, by cancellation or
// by the death of its process, and another one goes on from there. It is safe for
// concurrent use.
//
// Deploy the new version before: first listed, so that every process can read
// it, then as current.
type Rotator struct {
	box     *kmsencrypted.Box
	store   Store
	options Options
	// What a process learns of the database outlives a slice.
	brake    *brake
	size     *batchSize
	progress *progress
}

// New returns a Rotator. The store must work with the same box. New returns
// [kmsencrypted.ErrConfig] for mistakes in the options and a nil box or store.
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

// Table is the name of the table that is rotated.
func (r *Rotator) Table() string {
	if r == nil || r.store == nil {
		return ""
	}
	return r.store.Table()
}

// Pause stops the unfinished run in all processes, which drop the batches they
// hold; their calls of [Rotator.Run] return [ErrPaused]. It does nothing if there
// is no such run.
func (r *Rotator) Pause(ctx context.Context) error { return r.setState(ctx, "pause", RunPaused) }

// Resume lets a paused run go on; somebody has to call [Rotator.Run] again.
func (r *Rotator) Resume(ctx context.Context) error { return r.setState(ctx, "resume", RunActive) }

// Cancel ends the unfinished run for good. What was written stays; the next call
// of [Rotator.Run] begins a new one.
func (r *Rotator) Cancel(ctx context.Context) error { return r.setState(ctx, "cancel", RunCanceled) }

func (r *Rotator) setState(ctx context.Context, op string, state RunState) error {
	s, found, err := r.store.Newest(ctx)
	if err == nil && found && s.State.Unfinished() {
		err = r.store.SetState(ctx, s.ID, state)
	}
	return r.failed(op, err)
}

func (r *Rotator) failed(op string, err error) error {
	if err == nil || errors.As(err, new(*kmsencrypted.Error)) {
		return err
	}
	return fmt.Errorf("rotation: %s table %s: %w", op, r.store.Table(), err)
}

// Event is something that happened in a rotation. It holds nothing secret.
type Event struct {
	Type  EventType
	Table string
	Run   string // empty in a verification
	Pass  int
	Shard int
	// Outcome is that of the batch for [EventBatch], else that of this call so far.
	Outcome Outcome
	// Stages is where the time of the batch of [EventBatch] went.
	Stages Stages
	// Planned is how many records were selected when the run began, or a
	// verification.
	Planned int64
	// Passed is how many of them a verification has read so far, with those that a
	// sample leaves out.
	Passed int64
	// Elapsed is the time since this call began.
	Elapsed time.Duration
	Failure *Failure // of [EventFailure]
	Err     error    // of [EventThrottled]: what the key service answered
	Reason  string   // of [EventWaiting]: what a check says
}

// Stages is the time of a batch. The stages of neighbouring batches overlap, so
// that the sum is more than what passed.
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
	EventThrottled EventType = "throttled"  // the key service asks to wait
	EventWaiting   EventType = "waiting"    // a check holds the run up
	EventGoesOn    EventType = "goes on"    // after EventWaiting
	EventLost      EventType = "lease lost" // a batch was dropped, another worker has the shard
	EventShardDone EventType = "shard done"
	EventPassDone  EventType = "pass done" // told by the one worker that ended it
	EventOpened    EventType = "opened"    // by a verification: a batch
	EventVerified  EventType = "verified"
)
