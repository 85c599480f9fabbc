package kmsriver

import (
	"time"

	"github.com/riverqueue/river"
)

// Config returns the configuration of a client for rotations alone that does so
// many jobs at the same time. To be completed: Schema, Logger and whatever else.
//
// It differs from River's defaults in two things. A job runs 20 s at most, and
// is missed after as long (River: 1 min, 1 h). River looks every 30 s for jobs
// that are missed and puts them back within 5 s, so that even after all workers
// were killed at once work goes on within a minute of their restart. As long as
// one worker lives none of this is waited for: it takes over the shards of the
// others after [rotation.Options].Lease.
//
// What concerns only these jobs goes with them: 1,000 attempts (River: 25), and
// [Worker.NextRetry].
func (w *Worker) Config(jobs int) *river.Config {
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	return &river.Config{
		JobTimeout:           timeout,
		RescueStuckJobsAfter: timeout,
		Queues:               map[string]river.QueueConfig{Queue: {MaxWorkers: jobs}},
		Workers:              workers,
	}
}

// Timeout is 20 s: the time of a turn twice.
func (w *Worker) Timeout(*river.Job[Job]) time.Duration { return 2 * w.turn }

// NextRetry is a second after a job was missed or had an error, then twice as
// long for each error of the last 5 minutes, and a minute at most. River's own
// policy waits 28 hours after the 18th.
func (w *Worker) NextRetry(job *river.Job[Job]) time.Time {
	const first, most, window = time.Second, time.Minute, 5 * time.Minute
	now, wait := time.Now(), first
	for _, e := range job.Errors {
		if now.Sub(e.At) < window {
			wait = min(2*wait, most)
		}
	}
	return now.Add(wait)
}
