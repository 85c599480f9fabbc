package rotation

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// ErrPaused reports that somebody paused the run. [Rotator.Resume] makes it active
// again.
var ErrPaused = errors.New("rotation is paused")

// ErrTooManyFailures reports that a run stopped at [Options.MaxFailures].
var ErrTooManyFailures = errors.New("too many records failed")

// Result is the result of a call of [Rotator.Run].
type Result struct {
	Run string
	// Outcome is that of this call. But Failed is the number of records that failed in
	// the last pass, in all processes, as [Rotator.Failures] lists them: each pass tries
	// them again.
	Outcome
	Pass int  // the last pass
	Done bool // whether no record is left that could be moved
}

const (
	turn      = 10 * time.Second       // how long a worker keeps a shard
	poll      = 200 * time.Millisecond // while other workers hold the remaining shards
	firstWait = 200 * time.Millisecond // after throttling; doubled each time
	longWait  = 10 * time.Second
	patience  = 90 * time.Second // with a key service that does not answer, without MaxWait
)

// Run rotates the table until a pass over it finds nothing more to move. It
// continues an unfinished run of the table. Processes that run at the same time
// share its shards. Records that cannot be moved do not stop the rest:
// [Rotator.Failures] lists them, and the next run tries them again.
//
// When ctx ends, Run writes the batches in flight, gives the shards back and
// returns the error of ctx. After any error, Run may be called again. It returns
// [kmsencrypted.ErrConflict] if a run of another kind or to another version is
// unfinished.
func (r *Rotator) Run(ctx context.Context) (Result, error) {
	run, err := r.Begin(ctx)
	if err != nil {
		return Result{}, err
	}
	w := r.runner(run)
	w.tell(EventPlanned, Shard{})
	defer r.hold()()
	err = w.all(ctx)
	result := Result{Run: run.ID, Outcome: w.outcome}
	if status, found, statusErr := r.store.Newest(context.WithoutCancel(ctx)); statusErr == nil && found && status.ID == run.ID {
		result.Pass, result.Done, result.Failed = status.Pass, status.State == RunDone, status.Failed
		if err == nil && status.State == RunPaused {
			err = ErrPaused
		}
	} else if err == nil {
		err = statusErr
	}
	if result.Done {
		w.tell(EventDone, Shard{Pass: result.Pass})
	}
	return result, r.failed("run", err)
}

func (r *Rotator) runner(run Status) *runner {
	r.progress.of(run.ID)
	return &runner{Rotator: r, run: run.Run, began: time.Now(), reason: run.Waiting, pass: run.Pass, turned: make(chan struct{})}
}

// hold lets a store with a method Hold keep its connections until release is called.
func (r *Rotator) hold() (release func()) {
	if s, ok := r.store.(interface{ Hold() (release func()) }); ok {
		return s.Hold()
	}
	return func() {}
}

// runner is one call of Run or Work.
type runner struct {
	*Rotator
	run     Run
	began   time.Time
	started atomic.Int64 // records that were read, for the limit
	writing atomic.Int64 // nanoseconds, of batches whose time the ledger does not have yet

	mu      sync.Mutex
	outcome Outcome
	pass    int    // the last one of which a batch was written
	failed  int64  // records in that pass, for the most
	reason  string // why the run waits, as stored in the ledger
	// turned is closed, and replaced, when a worker has ended a turn or a pass.
	turned chan struct{}
}

// errLimit ends the workers. It is not an error of the run.
var errLimit = errors.New("limit reached")

// all runs the workers. The first error stops them after they have finished their
// batches.
func (w *runner) all(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var workers sync.WaitGroup
	for range w.options.Workers {
		workers.Go(func() {
			if err := w.work(ctx); err != nil {
				stop(err)
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, errLimit) {
		return err
	}
	return nil
}

// work takes shards until the run is over.
func (w *runner) work(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		turned := w.nextTurn()
		shard, offer, err := w.take(ctx, AnyShard)
		if err == nil {
			switch offer {
			case OfferNothing:
				return nil
			case OfferWait:
				err = sleep.Until(ctx, turned, poll)
			case OfferNextPass:
				err = w.endPass(ctx, shard)
				w.wake()
			case OfferShard:
				_, err = w.turn(ctx, shard, turn)
				w.wake()
			}
		}
		switch {
		case errors.Is(err, ErrLeaseLost):
			w.tell(EventLost, shard)
		case errors.Is(err, ErrDatabaseAway) && w.waitsForDatabase():
			w.options.Observe(w.waitingEvent(err.Error()))
			_ = sleep.For(ctx, time.Second)
		case err != nil:
			return err
		default:
			w.progress.outage.isOver()
		}
	}
}

// nextTurn is closed when the next worker of this process has ended a turn or a pass.
func (w *runner) nextTurn() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.turned
}

// wake lets the workers that wait look for a shard again.
func (w *runner) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.turned)
	w.turned = make(chan struct{})
}

func (w *runner) waitsForDatabase() bool {
	goesOn, _ := w.progress.outage.goesOn(cmp.Or(w.options.MaxWait, patience))
	return goesOn
}

// endPass reports the end of a pass only if this worker ended it, not another one
// of this or any process.
func (w *runner) endPass(ctx context.Context, shard Shard) error {
	return w.progress.ended(ctx, shard.Pass, func() error {
		ctx, cancel := withGrace(ctx, grace)
		defer cancel()
		ended, err := w.store.NextPass(ctx, w.run.ID, shard.Pass)
		if ended {
			w.tell(EventPassDone, shard)
		}
		return err
	})
}

// take leases a shard. Like other statements of the ledger this one is not broken off when
// ctx ends, unless it hangs. The driver of SQLite before version 1.40.1 may leave a query
// open that is, and its connection reads the old state of the database from then on.
//
// Each lease has an owner of its own. A database that failed over may have an earlier one
// of the same worker, even at the same position, and a batch that was read under the later
// one must not be written there.
func (w *runner) take(ctx context.Context, number int) (Shard, Offer, error) {
	ctx, cancel := withGrace(ctx, grace)
	defer cancel()
	return w.store.Take(ctx, w.run.ID, rand.Text(), number, w.options.Lease)
}

func (w *runner) newest(ctx context.Context) (Status, bool, error) {
	ctx, cancel := withGrace(ctx, grace)
	defer cancel()
	return w.store.Newest(ctx)
}

// giveBack works even after ctx has ended.
func (w *runner) giveBack(ctx context.Context, shard Shard) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.options.Lease)
	defer cancel()
	return w.store.Release(ctx, shard)
}

// keepAlive extends the lease of a shard while its worker waits for a key service.
func (w *runner) keepAlive(ctx context.Context, shard Shard) *heartbeat {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h := &heartbeat{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(h.ended)
		for sleep.For(ctx, w.options.Lease/3) == nil {
			// A failure is noticed when the batch is written.
			_ = w.store.Keep(ctx, shard, w.options.Lease)
		}
	}()
	return h
}

type heartbeat struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

func (h *heartbeat) stop() {
	h.cancel()
	<-h.ended
}

// active returns [ErrLeaseLost] once the run was paused or cancelled.
func (w *runner) active(ctx context.Context) error {
	status, found, err := w.newest(ctx)
	if err == nil && (!found || status.ID != w.run.ID || status.State != RunActive) {
		err = ErrLeaseLost
	}
	return err
}

// heldUp reports that a check holds up the run, or no longer does.
func (w *runner) heldUp(ctx context.Context, reason string) {
	w.options.Observe(w.waitingEvent(reason))
	w.waits(ctx, reason)
}

func (w *runner) waitingEvent(reason string) Event {
	event := w.event(EventWaiting, Shard{})
	if event.Reason = reason; reason == "" {
		event.Type = EventGoesOn
	}
	return event
}

// waits stores in the ledger why the run waits, for status displays. The run does
// not depend on it.
func (w *runner) waits(ctx context.Context, reason string) {
	w.mu.Lock()
	changed := w.reason != reason
	w.reason = reason
	w.mu.Unlock()
	if changed {
		_ = w.store.SetWaiting(context.WithoutCancel(ctx), w.run.ID, reason)
	}
}

// account adds the outcome of a batch to the totals and reports it.
func (w *runner) account(shard Shard, b readBatch) error {
	o := b.outcome
	w.mu.Lock()
	if shard.Pass != w.pass { // it tries the failed records again
		w.pass, w.failed, w.outcome.Failed = shard.Pass, 0, 0
	}
	w.outcome = w.outcome.plus(o)
	w.progress.noted(o)
	w.failed += o.Failed
	failed := w.failed
	w.mu.Unlock()
	event := w.event(EventBatch, shard)
	event.Outcome, event.Stages = o, b.stages
	w.options.Observe(event)
	event.Stages = Stages{}
	if o.Conflicts > 0 {
		event.Type = EventConflict
		w.options.Observe(event)
	}
	for _, f := range b.Failures() {
		event.Type, event.Failure = EventFailure, &f
		w.options.Observe(event)
	}
	if most := w.options.MaxFailures; most > 0 && o.Failed > 0 && failed >= int64(most) {
		return fmt.Errorf("%w: %d", ErrTooManyFailures, failed)
	}
	return nil
}

// inPieces calls do for pieces of a batch, each with as many records as the limiter
// admits at once.
func inPieces(ctx context.Context, limiter Limiter, b Batch, needs calls, from, to int, do func(from, to int) error) error {
	size := max(to-from, 1)
	if limiter != nil {
		perRecord := max(1, float64(b.Keys(from, to))/float64(size))
		size = max(1, int(float64(needs.most(int(float64(size)*perRecord), max(1, limiter.Burst())))/perRecord))
	}
	for ; from < to; from += size {
		end := min(from+size, to)
		if n := needs(b.Keys(from, end)); limiter != nil && n > 0 {
			if err := limiter.Wait(ctx, n); err != nil {
				return err
			}
		}
		if err := do(from, end); err != nil {
			return err
		}
	}
	return nil
}

func (w *runner) tell(t EventType, shard Shard) { w.options.Observe(w.event(t, shard)) }

func (w *runner) event(t EventType, shard Shard) Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Event{
		Type: t, Table: w.store.Table(), Run: w.run.ID, Pass: shard.Pass, Shard: shard.Number,
		Outcome: w.outcome, Planned: w.run.Planned, Elapsed: time.Since(w.began),
	}
}
