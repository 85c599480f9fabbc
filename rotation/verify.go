package rotation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/parallel"
)

// VerifyOptions configure [Rotator.Verify].
type VerifyOptions struct {
	// Sample is the share of records to open, 0.01 for one in a hundred; 0 opens all.
	// All records are counted.
	Sample float64
	// MaxFailures stops after this many failures; 0 means 1000, below 0 there is no
	// limit.
	MaxFailures int
	// OnlyOld opens only records that still must be moved: what a run would do, without
	// writing. This is the dry run.
	OnlyOld bool
	// Derived also compares what is derived from the values of a record. Blind indexes
	// are computed again, with [kmsencrypted.ErrStaleIndex] for a difference, and
	// columns that replace others are compared with these, with
	// [kmsencrypted.ErrNotMigrated]. Slow indexes take time.
	// A verification of the kind [Migrate] always compares the columns.
	Derived bool
	// OnReplica allows a database that is a replica, which may lack the latest rows. Its
	// result is not noted. Without it Verify returns [kmsencrypted.ErrConfig] there, if
	// the store tells by a method Replica(context.Context) (bool, error).
	OnReplica bool
	// Note records a clean result of all records of the table in the ledger, for [Rotator.Retirable]
	// and [Rotator.ClearJournal]. If a record fails, it removes the earlier result.
	// Nothing else is written.
	Note bool
}

// Verification is the result of [Rotator.Verify].
type Verification struct {
	Versions []VersionCount
	Opened   int64 // records whose columns all opened
	Failures []Failure
}

// Clean reports whether every record opened and all are at version target. Then
// older versions can be retired.
func (v Verification) Clean(target int) bool {
	return len(v.Failures) == 0 && !slices.ContainsFunc(v.Versions, func(c VersionCount) bool { return c.Old(target) })
}

// Verify reads the table and opens every column of its records. It finds changed
// values, values under another data key, and data without a key. It does not write
// records. It makes one call to the key service for each key, or fewer if the service
// takes batches, within the limit of [Options.Calls].
func (r *Rotator) Verify(ctx context.Context, options VerifyOptions) (Verification, error) {
	if options.MaxFailures == 0 {
		options.MaxFailures = 1000
	}
	if err := r.mayVerify(ctx, &options); err != nil {
		return Verification{}, r.failed("verify", err)
	}
	plan, err := r.plan(ctx, false)
	if err != nil {
		return Verification{}, r.failed("verify", err)
	}
	v := &verifying{Rotator: r, VerifyOptions: options, began: time.Now(), planned: plan.Records}
	if !options.OnlyOld {
		v.planned = records(plan)
	}
	for _, p := range plan.Versions {
		v.result.Versions = append(v.result.Versions, p.VersionCount)
	}
	release := r.hold()
	err = v.all(ctx)
	release()
	if err := errors.Join(err, v.note(ctx, err == nil)); err != nil {
		return v.result, r.failed("verify", err)
	}
	r.options.Observe(v.event(EventVerified))
	return v.result, nil
}

// mayVerify refuses a replica unless it was asked for.
func (r *Rotator) mayVerify(ctx context.Context, options *VerifyOptions) error {
	if err := r.usable(); err != nil {
		return err
	}
	replica, err := r.onReplica(ctx)
	if err == nil && replica && !options.OnReplica {
		err = fmt.Errorf("%w: the database is a replica or read-only, and may lack the latest rows", kmsencrypted.ErrConfig)
	}
	options.Note = options.Note && !replica
	if err == nil && options.Note { // not after hours of calls
		_, _, err = r.store.Newest(ctx)
	}
	return err
}

func (r *Rotator) onReplica(ctx context.Context) (bool, error) {
	if s, ok := r.store.(interface {
		Replica(context.Context) (bool, error)
	}); ok {
		return s.Replica(ctx)
	}
	return false, nil
}

// note records the result in the ledger. One failed record proves that not all are
// clean; only a complete verification proves that all are.
func (v *verifying) note(ctx context.Context, toTheEnd bool) error {
	switch {
	case !v.Note:
	case len(v.result.Failures) > 0:
		return v.store.SetVerified(ctx, false)
	case toTheEnd && v.Sample == 0 && !v.OnlyOld && v.options.Part == "" && v.result.Clean(v.box.Current()):
		return v.store.SetVerified(ctx, true)
	}
	return nil
}

// records returns the number of records of the table: the counts include each once
// for each key column.
func records(p Plan) (n int64) {
	for _, c := range p.Versions {
		if c.Column == p.Versions[0].Column {
			n += c.Rows
		}
	}
	return n
}

// verifying is one call of Verify.
type verifying struct {
	*Rotator
	VerifyOptions

	began   time.Time
	planned int64

	mu     sync.Mutex
	passed int64 // records read
	result Verification
}

func (v *verifying) event(kind EventType) Event {
	return Event{
		Type: kind, Table: v.store.Table(), Planned: v.planned, Elapsed: time.Since(v.began),
		Passed: v.passed, Outcome: Outcome{Failed: int64(len(v.result.Failures))},
	}
}

func (v *verifying) all(ctx context.Context) error {
	ranges, err := v.store.Ranges(ctx, v.options.Shards)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	parallel.Do(len(ranges), v.options.Workers, func(i int) {
		if err := v.records(ctx, ranges[i]); err != nil {
			stop(err)
		}
	})
	return context.Cause(ctx)
}

// records opens the records of a range.
func (v *verifying) records(ctx context.Context, r Range) error {
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		b, err := v.store.Read(ctx, Selection{
			Range: r, Limit: v.options.BatchSize, Kind: v.options.Kind, Target: v.box.Current(), All: !v.OnlyOld, Derived: v.Derived, Part: v.options.Part,
		})
		if err != nil {
			return err
		}
		from, to := v.sampled(b.Len())
		err = inPieces(ctx, v.options.Calls, b, v.opening(), from, to, func(i, j int) error { return b.Open(ctx, i, j) })
		if err != nil {
			return err
		}
		if err := v.account(int64(b.Len()), int64(to-from), b.Failures()); err != nil {
			return err
		}
		if !b.More() {
			return nil
		}
		r.After = b.Last()
	}
}

// sampled selects a part of a batch.
func (v *verifying) sampled(n int) (from, to int) {
	if v.Sample <= 0 || v.Sample >= 1 {
		return 0, n
	}
	share := float64(n) * v.Sample
	size := int(share)
	if rand.Float64() < share-float64(size) {
		size++ // so that small batches contribute too
	}
	from = rand.IntN(n - size + 1)
	return from, from + size
}

func (v *verifying) account(passed, tried int64, failures []Failure) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.passed += passed
	v.result.Opened += tried - int64(len(failures))
	v.result.Failures = append(v.result.Failures, failures...)
	for _, f := range failures {
		v.options.Observe(Event{Type: EventFailure, Table: v.store.Table(), Failure: &f})
	}
	v.options.Observe(v.event(EventOpened))
	if v.MaxFailures > 0 && len(v.result.Failures) >= v.MaxFailures {
		return ErrTooManyFailures
	}
	return nil
}
