package rotation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Everything that schedules work (the goroutines of [Rotator.Run], a job queue, a
// workflow engine) uses two functions: Begin starts a run, and Work does a slice
// of it. All state is in the ledger. So any process may do any slice, and a lost
// slice is repeated from its last written batch.

// Begin returns the unfinished run of the table, or starts one if there is none.
// Its Shards are the shards to schedule. Begin rotates nothing.
//
// It returns [kmsencrypted.ErrNeedsRekey] if the plan needs a rekey, [ErrPaused]
// for a paused run, [kmsencrypted.ErrConflict] for an unfinished run of another
// kind, to another version or of another part, or the error in [Plan.Refused], also for an
// unfinished run.
func (r *Rotator) Begin(ctx context.Context) (Status, error) {
	status, err := r.begin(ctx)
	return status, r.failed("begin", err)
}

func (r *Rotator) begin(ctx context.Context) (Status, error) {
	if err := r.usable(); err != nil {
		return Status{}, err
	}
	const tries = 2 // another process may start one at the same time
	for range tries {
		status, found, err := r.store.Newest(ctx)
		if err != nil {
			return status, err
		}
		if found && status.State.Unfinished() {
			return status, r.mayWorkOn(ctx, status)
		}
		plan, err := r.plan(ctx, false)
		if err == nil {
			err = plan.check()
		}
		if err != nil {
			return status, err
		}
		ranges, err := r.store.Ranges(ctx, r.options.Shards)
		if err != nil {
			return status, err
		}
		run := Run{ID: rand.Text(), Kind: r.options.Kind, Target: r.box.Current(), Pass: 1, State: RunActive, Planned: plan.Records, Part: r.options.Part, NoJournal: r.options.NoJournal}
		if err := r.store.Start(ctx, run, ranges); !errors.Is(err, kmsencrypted.ErrConflict) {
			return Status{Run: run, Shards: len(ranges)}, err
		}
	}
	return Status{}, kmsencrypted.ErrConflict
}

// mayWorkOn refuses a run that this process cannot continue as it was started: the
// process that started it may have had the managers of files, and this one not.
func (r *Rotator) mayWorkOn(ctx context.Context, status Status) error {
	if status.Kind != r.options.Kind || status.Target != r.box.Current() || status.Part != r.options.Part {
		return unfinished{status.Run}
	}
	if status.State == RunPaused {
		return ErrPaused
	}
	return r.ready(ctx)
}

// unfinished is a [kmsencrypted.ErrConflict] with another text, because it concerns a
// run and no row has to be read again.
type unfinished struct{ run Run }

func (u unfinished) Error() string {
	of := ""
	if u.run.Part != "" {
		of = " of the part " + u.run.Part
	}
	return fmt.Sprintf("a %s to version %d%s is unfinished: finish or cancel it", u.run.Kind, u.run.Target, of)
}

// Is makes [errors.Is] report an ErrConflict.
func (unfinished) Is(target error) bool { return target == kmsencrypted.ErrConflict }

// AnyShard lets [Rotator.Work] take any free shard.
const AnyShard = -1

// Slice is the result of a call of [Rotator.Work].
type Slice struct {
	Outcome
	Pass int // of the run after this slice
	Next Next
}

// Next is what to do after a slice.
type Next string

const (
	// NextSlice means that there is more to do at once: call Work again.
	NextSlice Next = "slice"
	// NextWait means that other workers hold the remaining shards, or have done this
	// one. Try again later: a worker may die, and a new pass begins when all shards
	// are done.
	NextWait Next = "wait"
	// NextPass means that all shards were done, and the next pass over all of them
	// begins.
	NextPass Next = "pass"
	// NextNothing means that the run is over.
	NextNothing Next = "nothing"
)

// Work works for about d on a shard of a run, numbered from 0, or on any free one
// with [AnyShard], and then finishes the current batch. It does one slice of
// [Rotator.Run], for programs that schedule slices themselves: any number of
// workers, each calling Work with AnyShard until Next is NextNothing. A shard
// whose worker died is free again after [Options.Lease].
//
// The errors are those of Run. After any of them the slice may be tried again.
// [ErrTooManyFailures] is returned again at the next failed record, because all
// failures of the pass count.
func (r *Rotator) Work(ctx context.Context, run string, shard int, d time.Duration) (Slice, error) {
	status, found, err := r.newest(ctx)
	if err != nil || !found || status.ID != run || !status.State.Unfinished() {
		return Slice{Next: NextNothing}, r.failed("work", err)
	}
	if err := r.mayWorkOn(ctx, status); err != nil {
		return Slice{Pass: status.Pass, Next: NextWait}, r.failed("work", err)
	}
	w := r.runner(status)
	defer r.hold()()
	w.failed = status.Failed
	next, err := w.slice(ctx, shard, d)
	slice := Slice{Outcome: w.outcome, Pass: status.Pass, Next: next}
	if next == NextPass {
		slice.Pass, slice.Next, err = w.afterPass(ctx)
	}
	return slice, r.failed("work", err)
}

// slice works on one shard.
func (w *runner) slice(ctx context.Context, number int, d time.Duration) (Next, error) {
	shard, offer, err := w.take(ctx, number)
	if err != nil {
		return NextSlice, err
	}
	switch offer {
	case OfferNothing:
		return NextNothing, nil
	case OfferWait:
		return NextWait, nil
	case OfferNextPass:
		return NextPass, w.endPass(ctx, shard)
	}
	_, err = w.turn(ctx, shard, d)
	switch {
	case errors.Is(err, ErrLeaseLost):
		w.tell(EventLost, shard)
		err = nil
	case errors.Is(err, errLimit):
		return NextNothing, nil
	case err == nil:
		err = ctx.Err()
	}
	return NextSlice, err
}

// afterPass checks whether the run continues.
func (w *runner) afterPass(ctx context.Context) (pass int, next Next, err error) {
	status, found, err := w.newest(ctx)
	if err != nil {
		return w.run.Pass, NextSlice, err
	}
	if !found || status.ID != w.run.ID || !status.State.Unfinished() {
		return w.run.Pass, NextNothing, nil
	}
	return status.Pass, NextPass, nil
}
