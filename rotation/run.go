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

// ErrPaused: somebody paused the run. [Rotator.Resume] lets it go on.
var ErrPaused = errors.New("rotation is paused")

// ErrTooManyFailures: a run stopped at [Options.MaxFailures].
var ErrTooManyFailures = errors.New("too many records failed")

// Result is what a call of [Rotator.Run] did.
type Result struct {
	Run     string
	Outcome      // of this call; Failed counts a record once for each pass
	Pass    int  // the last one
	Done    bool // no record is left that could be moved
}

const (
	turn      = 10 * time.Second       // how long a worker keeps a shard
	poll      = 200 * time.Millisecond // while others hold what is left
	firstWait = 200 * time.Millisecond // after throttling, then twice as long
	longWait  = 10 * time.Second
	patience  = 90 * time.Second // with a key service that answers nothing, without MaxWait
)

// Run rotates the table until a pass over it finds nothing more to move. An
// unfinished run of the table goes on where it stopped; processes that run at the
// same time share its shards. Records that cannot be moved are listed by
// [Rotator.Failures] and do not stop the rest; the next run meets them again.
//
// When ctx ends, the batches in flight are written and the shards given back, and
// the error is that of ctx. After any error, Run may be called again. An
// unfinished run of another kind or to another version is [kmsencrypted.ErrConflict].
func (r *Rotator) Run(ctx context.Context) (Result, error) {
	run, err := r.Begin(ctx)
	if err != nil {
		return Result{}, err
	}
	w := r.runner(run)
	w.tell(EventPlanned, Shard{})
	err = w.all(ctx)
	result := Result{Run: run.ID, Outcome: w.outcome}
	if status, found, statusErr := r.store.Newest(context.WithoutCancel(ctx)); statusErr == nil && found && status.ID == run.ID {
		result.Pass, result.Done = status.Pass, status.State == RunDone
		if err == nil && status.State == RunPaused {
			err = ErrPaused
		}
	} else if err == nil {
		err = statusErr
	}
	return result, r.failed("run", err)
}

func (r *Rotator) runner(run Status) *runner {
	r.progress.of(run.ID)
	return &runner{Rotator: r, run: run.Run, began: time.Now(), reason: run.Waiting}
}

// runner is one call of Run or Work.
type runner struct {
	*Rotator
	run     Run
	began   time.Time
	started atomic.Int64 // records that were read, for the limit
	before  int64        // records that failed before, in this pass

	mu      sync.Mutex
	outcome Outcome
	reason  string // why the run waits, by the ledger
}

// errLimit ends the workers without being an error of the run.
var errLimit = errors.New("limit reached")

// all runs the workers. The first error stops them; each finishes its batch.
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
	owner := rand.Text()
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		shard, offer, err := w.store.Take(ctx, w.run.ID, owner, AnyShard, w.options.Lease)
		if err == nil {
			switch offer {
			case OfferNothing:
				return nil
			case OfferWait:
				err = sleep.For(ctx, poll)
			case OfferNextPass:
				err = w.endPass(ctx, shard)
			case OfferShard:
				_, err = w.turn(ctx, shard, turn)
			}
		}
		switch {
		case errors.Is(err, ErrLeaseLost):
			w.tell(EventLost, shard)
		case errors.Is(err, ErrDatabaseAway) && w.progress.outage.goesOn(cmp.Or(w.options.MaxWait, patience)):
			w.options.Observe(w.waitingEvent(err.Error()))
			_ = sleep.For(ctx, time.Second)
		case err != nil:
			return err
		default:
			w.progress.outage.isOver()
		}
	}
}

// endPass tells of the end of a pass only if it was not another worker, of this
// process or any, that ended it.
func (w *runner) endPass(ctx context.Context, shard Shard) error {
	return w.progress.ended(ctx, shard.Pass, func() error {
		ended, err := w.store.NextPass(ctx, w.run.ID, shard.Pass)
		if ended {
			w.tell(EventPassDone, shard)
		}
		return err
	})
}

// giveBack also works when ctx has ended.
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
			// A failure shows when the batch is written.
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

// active is [ErrLeaseLost] once the run was paused or cancelled.
func (w *runner) active(ctx context.Context) error {
	status, found, err := w.store.Newest(ctx)
	if err == nil && (!found || status.ID != w.run.ID || status.State != RunActive) {
		err = ErrLeaseLost
	}
	return err
}

// heldUp tells that a check holds the run up, or that it does no more.
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

// waits keeps in the ledger why the run waits, for others to see. The run does
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

// account adds up and tells what became of a batch.
func (w *runner) account(shard Shard, b readBatch) error {
	o := b.outcome
	w.mu.Lock()
	w.outcome = w.outcome.plus(o)
	w.progress.noted(o)
	failed := w.before + w.outcome.Failed
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

// inPieces calls do for pieces of the records of a batch, each as large as the
// limiter wants.
func inPieces(ctx context.Context, calls Limiter, b Batch, callsPerKey, from, to int, do func(from, to int) error) error {
	size := max(to-from, 1)
	if calls != nil {
		perRecord := float64(b.Keys(from, to)*callsPerKey) / float64(size)
		size = max(1, int(float64(calls.Burst())/max(perRecord, 1)))
	}
	for ; from < to; from += size {
		end := min(from+size, to)
		if n := b.Keys(from, end) * callsPerKey; calls != nil && n > 0 {
			if err := calls.Wait(ctx, n); err != nil {
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
