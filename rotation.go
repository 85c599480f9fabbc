package kmsencrypted

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// RotationKind is what a rotation does to each record.
type RotationKind string

const (
	// KindRewrap changes the wrapping of data keys only: another version of the
	// key, another key, key service or context. Columns and files stay as they
	// are. It is safe beside every writer, Ruby included.
	KindRewrap RotationKind = "rewrap"
	// KindRekey gives each record a new data key and seals its columns again,
	// whatever format they had. It is safe beside writers that compare the key
	// column, as those of this library do.
	KindRekey RotationKind = "rekey"
)

// RotationOptions says how a [Rotator] works. The zero value rewraps.
type RotationOptions struct {
	// Kind is what to do; empty is [KindRewrap].
	Kind RotationKind
	// WritersAreOurs confirms for a rekey that whoever changes encrypted columns
	// meanwhile does so through this library, or is stopped: an UPDATE that does
	// not compare the key column would leave a value under the old data key.
	// A rekey without it is [ErrConfig].
	WritersAreOurs bool
	// Workers is how many shards are worked on side by side; 0 is 4.
	Workers int
	// Shards is into how many ranges a new run cuts the table; 0 is 64. More than
	// workers, so that uneven ones do not matter.
	Shards int
	// BatchSize is records in one transaction; 0 is 1000.
	BatchSize int
	// MaxFailures stops a run after so many failed records; 0 is 1000, below 0
	// there is no limit.
	MaxFailures int
	// Limit stops a call of Run after about so many records, to within a batch
	// for each worker; 0 is no limit. The next call goes on from there.
	Limit int64
	// Calls bounds the calls to the key service; nil is no bound.
	Calls Limiter
	// Lease is after how long without a sign of life a shard may be taken by
	// another worker; 0 is 30 s.
	Lease time.Duration
	// Observe is told what happens, on the goroutine where it happens. It must be
	// safe for concurrent use and quick.
	Observe func(RotationEvent)
}

// withDefaults also finds mistakes.
func (o RotationOptions) withDefaults() (RotationOptions, error) {
	defaults := []struct {
		value *int
		zero  int
	}{{&o.Workers, 4}, {&o.Shards, 64}, {&o.BatchSize, 1000}}
	for _, d := range defaults {
		if *d.value < 0 {
			return o, fmt.Errorf("%w: a negative number of workers, shards or records", ErrConfig)
		}
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	if o.MaxFailures == 0 {
		o.MaxFailures = 1000
	}
	if o.Kind == "" {
		o.Kind = KindRewrap
	}
	if o.Lease == 0 {
		o.Lease = 30 * time.Second
	}
	if o.Observe == nil {
		o.Observe = func(RotationEvent) {}
	}
	switch {
	case o.Kind != KindRewrap && o.Kind != KindRekey:
		return o, fmt.Errorf("%w: unknown kind of rotation %q", ErrConfig, o.Kind)
	case o.Kind == KindRekey && !o.WritersAreOurs:
		return o, fmt.Errorf("%w: a rekey loses values of writers that do not compare the key column: stop them and set WritersAreOurs", ErrConfig)
	case o.Lease < 0 || o.Limit < 0:
		return o, fmt.Errorf("%w: a negative lease or limit", ErrConfig)
	}
	return o, nil
}

// Rotator moves the records of a table to the current version of a Box: it plans,
// runs, resumes and verifies. It may be stopped at any point, by cancellation or
// by the death of its process, and another one goes on from there. It is safe for
// concurrent use.
//
// Deploy the new version before: first listed, so that every process can read
// it, then as current.
type Rotator struct {
	box     *Box
	store   Store
	options RotationOptions
}

// NewRotator returns a Rotator. The store must work with the same box. Mistakes
// in the options are [ErrConfig].
func NewRotator(box *Box, store Store, options RotationOptions) (*Rotator, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("kmsencrypted: rotation of %s: %w", store.Table(), err)
	}
	return &Rotator{box: box, store: store, options: options}, nil
}

// Table is the name of the table that is rotated.
func (r *Rotator) Table() string { return r.store.Table() }

// Plan is what a run would do.
type Plan struct {
	Table    string
	Kind     RotationKind
	Target   int // version
	Versions []PlannedVersion
	// Keys is how many key columns are to be moved. A record with several keys
	// counts for each of them.
	Keys int64
	// Calls is how many values go to the key service: two for each key, one to be
	// unwrapped and one to be wrapped. A service that takes batches gets fewer
	// requests, several wraps for each key mean more.
	Calls int64
}

// PlannedVersion is the records that have a key column at one version.
type PlannedVersion struct {
	VersionCount
	// Need is what moves them; empty if they are at the target or have no key.
	Need RotationKind
	// Err is why the Box cannot read the version, such as [ErrVersionNotActive].
	// A run records them as failures.
	Err error
}

// callsPerKey: one to unwrap, one to wrap.
const callsPerKey = 2

// Plan counts the records by version and says what each needs. It writes
// nothing and calls no key service.
func (r *Rotator) Plan(ctx context.Context) (Plan, error) {
	counts, err := r.store.Count(ctx)
	if err != nil {
		return Plan{}, r.failed("plan", err)
	}
	p := Plan{Table: r.store.Table(), Kind: r.options.Kind, Target: r.box.Current()}
	target, err := r.box.Version(p.Target)
	if err != nil {
		return Plan{}, r.failed("plan", err)
	}
	for _, c := range counts {
		v := PlannedVersion{VersionCount: c}
		if c.HasKey && c.Version != p.Target {
			var recipe Version
			recipe, v.Err = r.box.Version(c.Version)
			v.Need = KindRewrap
			if r.options.Kind == KindRekey || v.Err == nil && recipe.Format != target.Format {
				v.Need = KindRekey
			}
			p.Keys += c.Rows
			p.Calls += c.Rows * callsPerKey
		}
		p.Versions = append(p.Versions, v)
	}
	return p, nil
}

// check refuses a plan that no run could carry out.
func (p Plan) check() error {
	for _, v := range p.Versions {
		if v.Need == KindRekey && p.Kind != KindRekey && v.Err == nil {
			return fmt.Errorf("version %d of %s: %w", v.Version, v.Column, ErrNeedsRekey)
		}
	}
	return nil
}

// Status returns what the ledger says of the latest run, and false if there was none.
func (r *Rotator) Status(ctx context.Context) (RunStatus, bool, error) {
	s, found, err := r.store.Newest(ctx)
	return s, found, r.failed("status", err)
}

// Failures lists the failed records of the latest run, at most limit of them; 0
// lists all.
func (r *Rotator) Failures(ctx context.Context, limit int) ([]Failure, error) {
	s, found, err := r.store.Newest(ctx)
	if err != nil || !found {
		return nil, r.failed("failures", err)
	}
	failures, err := r.store.Failures(ctx, s.ID, limit)
	return failures, r.failed("failures", err)
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
	if err == nil || errors.As(err, new(*Error)) {
		return err
	}
	return fmt.Errorf("kmsencrypted: %s rotation of %s: %w", op, r.store.Table(), err)
}

// RotationEvent is something that happened in a rotation. It holds nothing secret.
type RotationEvent struct {
	Type  RotationEventType
	Table string
	Run   string // empty in a verification
	Pass  int
	Shard int
	// Outcome is that of the batch for [EventBatch], else that of this call so far.
	Outcome Outcome
	// Planned is how many keys were to be moved when this call began.
	Planned int64
	// Elapsed is the time since this call began.
	Elapsed time.Duration
	Failure *Failure // of [EventFailure]
	Err     error    // of [EventThrottled]: the reason
}

// RotationEventType is the kind of a [RotationEvent].
type RotationEventType string

const (
	EventPlanned   RotationEventType = "planned"
	EventShard     RotationEventType = "shard"      // a shard was taken
	EventBatch     RotationEventType = "batch"      // a batch was written
	EventConflict  RotationEventType = "conflict"   // a batch met rows that had changed
	EventFailure   RotationEventType = "failure"    // a record failed
	EventThrottled RotationEventType = "throttled"  // the key service asks to wait
	EventLost      RotationEventType = "lease lost" // a batch was dropped, another worker has the shard
	EventShardDone RotationEventType = "shard done"
	EventPassDone  RotationEventType = "pass done"
	EventVerified  RotationEventType = "verified"
)
