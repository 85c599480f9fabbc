package kmsriver

import (
	"time"

	"github.com/riverqueue/river"
)

// Config returns the configuration of a client that only runs rotations, with up
// to jobs jobs at once. The caller adds Schema, Logger and everything else.
//
// It changes two of River's defaults. A job runs for at most 20 s, and counts as
// lost after the same time (River: 1 min, 1 h). River looks for lost jobs every
// 30 s and puts them back within 5 s. So even if all workers are killed at once,
// work continues within a minute after they restart. While one worker is alive,
// nothing waits for this: it takes over the shards of the others after
// [rotation.Options].Lease.
//
// The jobs themselves carry the rest: 1,000 attempts (River: 25), and
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

// Timeout returns 20 s, twice the time of a turn.
func (w *Worker) Timeout(*river.Job[Job]) time.Duration {
	if w == nil {
		return timeout
	}
	return 2 * w.turn
}

// NextRetry returns the time of the next attempt after a job was lost or failed:
// after one second, doubled for each error of the last 5 minutes, and at most a
// minute. River's own policy waits 29 hours after the 18th error.
func (w *Worker) NextRetry(job *river.Job[Job]) time.Time {
	if job == nil {
		return time.Now()
	}
	const first, most, window = time.Second, time.Minute, 5 * time.Minute
	now, wait := time.Now(), first
	for _, e := range job.Errors {
		if now.Sub(e.At) < window {
			wait = min(2*wait, most)
		}
	}
	return now.Add(wait)
}
