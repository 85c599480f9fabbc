package kmsriver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

const (
	// turn is how long a job works before it yields to others. Stopping a client
	// waits at most this long.
	turn = 10 * time.Second
	// timeout gives a job the same time again to finish its batch.
	timeout = 2 * turn

	poll        = 200 * time.Millisecond // while other jobs hold the remaining shards
	afterWait   = time.Second
	whilePaused = 5 * time.Second
)

// Worker runs the jobs of [Start], for any number of tables. It is safe for
// concurrent use.
type Worker struct {
	river.WorkerDefaults[Job]
	rotators map[string]*rotation.Rotator
	turn     time.Duration
}

// NewWorker returns a Worker for the tables of these Rotators; a nil one and two
// of one table are [kmsencrypted.ErrConfig]. How many shards are worked on side by
// side is said by the client, not by rotation.Options.Workers, and
// rotation.Options.Limit is that of a job.
func NewWorker(rotators ...*rotation.Rotator) (*Worker, error) {
	w := &Worker{rotators: make(map[string]*rotation.Rotator), turn: turn}
	for _, r := range rotators {
		if r.Table() == "" {
			return nil, fmt.Errorf("kmsriver: %w: a Rotator is nil or was not made by rotation.New", kmsencrypted.ErrConfig)
		}
		if w.rotators[r.Table()] != nil {
			return nil, fmt.Errorf("kmsriver: %w: two rotators of table %s", kmsencrypted.ErrConfig, r.Table())
		}
		w.rotators[r.Table()] = r
	}
	return w, nil
}

// Work runs one turn on the free shards, and schedules the next one until the run
// is over. While the run is paused it checks again every 5 s.
//
// An error is retried. The exception is too many failed records, which would fail
// again: that pauses the run, and River shows the job as cancelled, with the
// error.
func (w *Worker) Work(ctx context.Context, job *river.Job[Job]) error {
	if w == nil || job == nil {
		return fmt.Errorf("kmsriver: %w: no Worker or no job", kmsencrypted.ErrConfig)
	}
	r := w.rotators[job.Args.Table]
	if r == nil {
		return fmt.Errorf("kmsriver: %w: this worker has no rotator of table %s", kmsencrypted.ErrConfig, job.Args.Table)
	}
	ctx, cancel := untilStopped(ctx)
	defer cancel()
	for until := time.Now().Add(w.turn); ; {
		slice, err := r.Work(ctx, job.Args.Run, rotation.AnyShard, time.Until(until))
		switch {
		case errors.Is(err, rotation.ErrPaused):
			return river.JobSnooze(whilePaused)
		case errors.Is(err, rotation.ErrTooManyFailures):
			return river.JobCancel(errors.Join(err, r.Pause(context.WithoutCancel(ctx))))
		case err != nil:
			return err
		case slice.Next == rotation.NextNothing:
			return nil
		case slice.Next == rotation.NextWait && sleep.For(ctx, poll) != nil:
			return ctx.Err()
		case time.Now().Before(until):
		case slice.Next == rotation.NextWait:
			return river.JobSnooze(afterWait)
		default:
			return river.JobSnooze(0)
		}
	}
}

// untilStopped returns a context that ends when the client stops or somebody
// cancels the job, but not at the job's timeout. Otherwise a batch that waits long
// for a key service would be dropped each time, and the run would never end. River
// may meanwhile give the job to another worker, which does no harm.
func untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			cancel()
		}
	})
	return working, func() { stop(); cancel() }
}
