package rotation

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/requests"
	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// A worker's turn on a shard is a pipeline of three stages: while the key service
// works on one batch, the next one is read and the previous one is written. Batches
// are written one after another, because each also writes the position of the shard.

// turn works on a shard for about d, at least one batch, and gives it back unless it
// is done.
func (w *runner) turn(ctx context.Context, shard Shard, d time.Duration) (done bool, err error) {
	w.tell(EventShard, shard)
	lease := w.keepAlive(ctx, shard)
	defer lease.stop()
	t := &shardTurn{runner: w, shard: shard, until: time.Now().Add(d), handed: time.Now()}
	done, moving := t.batches(ctx)
	writing := t.wrote(ctx)
	if done && moving == nil && writing == nil {
		w.tell(EventShardDone, t.shard)
		return true, nil
	}
	shard.Calls = t.lost.Load()
	return false, errors.Join(w.unlessPasses(ctx, moving), w.unlessPasses(ctx, writing), w.giveBack(ctx, shard))
}

// unlessPasses returns nil for an error after which another turn goes on.
func (w *runner) unlessPasses(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errTurnOver):
		return nil
	case errors.Is(err, ErrLocked):
		w.size.shrink() // the same records again, in smaller batches
		w.heldUp(ctx, ErrLocked.Error())
		return nil
	}
	return err
}

// shardTurn is the state of one turn.
type shardTurn struct {
	*runner
	shard   Shard
	until   time.Time
	handed  time.Time // when the last batch was passed to be written
	reading *future[readBatch]
	writing *future[readBatch]
	lost    atomic.Int64 // calls of batches that were not written
}

// readBatch is a batch in the pipeline.
type readBatch struct {
	Batch
	stages  Stages
	calls   *atomic.Int64
	outcome Outcome
}

// future is a result that another goroutine computes.
type future[T any] struct {
	done  chan struct{}
	value T
	err   error
}

func begin[T any](do func() (T, error)) *future[T] {
	f := &future[T]{done: make(chan struct{})}
	go func() {
		defer close(f.done)
		f.value, f.err = do()
	}()
	return f
}

func (f *future[T]) wait() (T, error) {
	<-f.done
	return f.value, f.err
}

// batches moves batches until the shard is done or the time is over. A batch that
// was read is finished even if ctx ends, unless the key service makes it wait.
func (t *shardTurn) batches(ctx context.Context) (done bool, err error) {
	if err := t.read(ctx, t.shard.Range); err != nil {
		return false, err
	}
	for {
		began := time.Now()
		b, err := t.reading.wait()
		if err != nil {
			return false, err
		}
		last := !b.More()
		ahead, err := t.readAhead(ctx, b, last)
		if err == nil {
			err = t.rotate(ctx, &b)
		}
		if err == nil {
			err = t.wrote(ctx)
		}
		if err == nil {
			t.write(ctx, b, last)
			err = t.rest(ctx, began)
		} else {
			t.lost.Add(b.calls.Load())
		}
		if err == nil && ahead && ctx.Err() == nil {
			continue
		}
		t.drop(ahead)
		return last && err == nil, err
	}
}

// readAhead starts to read the batch after b, if there is time for it.
func (t *shardTurn) readAhead(ctx context.Context, b readBatch, last bool) (ahead bool, err error) {
	if last || ctx.Err() != nil || !time.Now().Before(t.until) {
		return false, nil
	}
	err = t.read(ctx, Range{After: b.Last(), To: t.shard.To})
	if errors.Is(err, errLimit) || errors.Is(err, errTurnOver) || ctx.Err() != nil {
		return false, nil // the batch that was read already is finished
	}
	return err == nil, err
}

// drop waits for a batch that is not needed, so that no query outlives the turn.
func (t *shardTurn) drop(ahead bool) {
	if !ahead {
		return
	}
	if b, err := t.reading.wait(); err == nil {
		t.started.Add(-int64(b.Len()))
	}
}

// mostBursts limits the calls of a batch, so that a slow limiter does not make it
// longer than a turn: the limiter of one process takes 5 s for this many.
const mostBursts = 100

// read starts to read a batch, when the checks allow it and the limit is not
// reached.
func (t *shardTurn) read(ctx context.Context, from Range) error {
	if err := t.brake.pass(ctx, t.runner, t.until); err != nil {
		return err
	}
	size := t.size.now()
	if limiter := t.options.Calls; limiter != nil {
		size = t.mostCalls().most(size, mostBursts*max(1, limiter.Burst()))
	}
	if limit := t.options.Limit; limit > 0 {
		left := limit - t.started.Load()
		if left <= 0 {
			return errLimit
		}
		size = int(min(int64(size), left))
	}
	ctx = context.WithoutCancel(ctx)
	t.reading = begin(func() (readBatch, error) {
		began := time.Now()
		b, err := t.store.Read(ctx, Selection{Range: from, Limit: size, RotateOnly: true, Kind: t.run.Kind, Target: t.run.Target, Part: t.run.Part, NoJournal: t.run.NoJournal || t.options.NoJournal})
		if err == nil {
			t.started.Add(int64(b.Len()))
		}
		return readBatch{Batch: b, stages: Stages{Read: time.Since(began)}, calls: new(atomic.Int64)}, err
	})
	return nil
}

// rotate moves the records of a batch in memory, no faster than the limiter allows.
// It retries after the key service throttled or did not answer.
func (t *shardTurn) rotate(ctx context.Context, b *readBatch) error {
	needs := t.mostCalls()
	finish, cancel := withGrace(requests.Counted(ctx, b.calls), grace)
	defer cancel()
	defer func(began time.Time) { b.stages.Wait = time.Since(began) - b.stages.Rotate }(time.Now())
	return inPieces(ctx, t.options.Calls, b, needs, 0, b.Len(), func(from, to int) error {
		for wait, began := firstWait, time.Now(); ; wait = min(2*wait, longWait) {
			left := b.Keys(from, to)
			tried := time.Now()
			err := b.Rotate(finish, from, to)
			b.stages.Rotate += time.Since(tried)
			if err == nil || !kmsencrypted.Retryable(err) {
				return err
			}
			still := b.Keys(from, to)
			if still < left { // it answers some calls
				began = time.Now()
			}
			isPart := errors.Is(err, ErrOneProvider)
			if isPart && t.progress.leavesPart.Load() {
				return nil // they are met again in the next pass
			}
			if time.Since(began)+wait > cmp.Or(t.options.MaxWait, patience) {
				if !isPart {
					return err
				}
				t.progress.leavesPart.Store(true) // once is enough for a run to stand still
				return nil
			}
			if err := t.throttled(ctx, err, wait); err != nil {
				return err
			}
			if limiter := t.options.Calls; limiter != nil {
				if err := limiter.Wait(ctx, needs(still)); err != nil {
					return err
				}
			}
		}
	})
}

// grace is how long a batch may go on after the end of its context.
const grace = 10 * time.Second

// withGrace returns a context that ends some time after ctx does.
func withGrace(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(d, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(later, func() { timer.Stop() })
	})
	return later, func() { stop(); cancel(nil) }
}

// throttled waits for the key service, and slows the limiter down.
func (t *shardTurn) throttled(ctx context.Context, cause error, wait time.Duration) error {
	event := t.event(EventThrottled, t.shard)
	event.Err = cause
	t.options.Observe(event)
	t.waits(ctx, cause.Error())
	if limiter, ok := t.options.Calls.(ThrottledLimiter); ok && errors.Is(cause, kmsencrypted.ErrThrottled) {
		if err := limiter.Throttled(ctx); err != nil {
			return err
		}
	}
	return sleep.For(ctx, wait)
}

// write starts to write a batch. The store may call the key service, which may never
// answer: so the batch is dropped some time after the end of ctx.
func (t *shardTurn) write(ctx context.Context, b readBatch, last bool) {
	ctx, cancel := withGrace(requests.Counted(ctx, b.calls), grace)
	now := time.Now()
	to := Position{
		Shard: t.shard, After: b.Last(), Done: last, Lease: t.options.Lease,
		Final: t.progress.isFruitless(), Calls: b.calls.Load(), Busy: now.Sub(t.handed), Stages: b.stages, Allow: t.allow,
	}
	to.Stages.Write = time.Duration(t.runner.writing.Swap(0))
	t.handed = now
	if to.After != "" {
		t.shard.After = to.After
	}
	t.writing = begin(func() (readBatch, error) {
		defer cancel()
		began := time.Now()
		var err error
		b.outcome, err = b.Write(ctx, to)
		b.stages.Write = time.Since(began)
		return b, err
	})
}

// wrote waits for the batch that is being written, if any, and accounts for it.
func (t *shardTurn) wrote(ctx context.Context) error {
	if t.writing == nil {
		return nil
	}
	b, err := t.writing.wait()
	t.writing = nil
	if err != nil {
		t.lost.Add(b.calls.Load())
		if kmsencrypted.Retryable(err) {
			return t.putOff(ctx, err)
		}
		return err
	}
	t.progress.silence.isOver()
	t.size.took(b.Len(), b.stages.Read+b.stages.Write)
	t.runner.writing.Add(int64(b.stages.Write))
	t.waits(ctx, "")
	return t.account(t.shard, b)
}

// putOff waits for the key service after it did not answer to a store that opened what
// it had written. Another turn repeats the batch.
func (t *shardTurn) putOff(ctx context.Context, err error) error {
	goesOn, since := t.progress.silence.goesOn(cmp.Or(t.options.MaxWait, patience))
	if !goesOn {
		return err
	}
	if err := t.throttled(ctx, err, min(firstWait+since, longWait)); err != nil {
		return err
	}
	return errTurnOver
}

// rest waits until the batch is written and sleeps for a multiple of the time
// worked, so that the database is free for others. It ends early when ctx ends.
func (t *shardTurn) rest(ctx context.Context, began time.Time) error {
	if t.options.Nice == 0 {
		return nil
	}
	err := t.wrote(ctx)
	if err == nil {
		_ = sleep.For(ctx, time.Duration(float64(time.Since(began))*t.options.Nice))
	}
	return err
}

// allow waits until the limiter lets a store make some of n more calls.
func (t *shardTurn) allow(ctx context.Context, n int) (some int, err error) {
	limiter := t.options.Calls
	if limiter == nil {
		return n, nil
	}
	some = min(n, max(1, limiter.Burst()))
	return some, limiter.Wait(ctx, some)
}
