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
	// turn is how long a job works until others have theirs. A client that stops
	// waits that long at most.
	turn = 10 * time.Second
	// timeout leaves a job as long again to finish its batch.
	timeout = 2 * turn

	poll        = 200 * time.Millisecond // while others hold what is left
	afterWait   = time.Second
	whilePaused = 5 * time.Second
)

// Worker does the jobs of [Start], for any number of tables. It is safe for
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

// Work has a turn, on whatever shards are free, and asks for the next one until
// the run is over. While the run is paused it looks again every 5 s.
//
// An error is tried again. Only too many failed records would be as many the
// next time: that pauses the run, and River shows the job as cancelled, with the
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
// cancels the job, and not at the job's timeout: a batch that waits long for a
// key service would be dropped each time, and the run would never end. That
// River meanwhile gives the job to another worker does no harm.
func untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			cancel()
		}
	})
	return working, func() { stop(); cancel() }
}
