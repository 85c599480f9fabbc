package kmsriver

import (
	"context"
	"fmt"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Queue is the name of the queue of the jobs.
const Queue = "kms_rotation"

// Job holds the arguments of a job. All jobs of a run are interchangeable: none
// is tied to a shard. So the shards of a killed worker are taken over as soon as
// their leases end, whatever happens to its jobs.
type Job struct {
	Table  string `json:"table"`
	Run    string `json:"run"`
	Number int    `json:"number"` // from 0
}

// Kind returns River's name for these jobs.
func (Job) Kind() string { return "kms_rotation" }

// maxAttempts counts errors, not turns. At one error a minute it lasts for 16
// hours.
const maxAttempts = 1000

// InsertOpts returns River's options for these jobs. Each job exists only once
// until it is finished.
func (Job) InsertOpts() river.InsertOpts {
	return river.InsertOpts{
		Queue:       Queue,
		MaxAttempts: maxAttempts,
		UniqueOpts:  river.UniqueOpts{ByArgs: true, ByState: unfinished},
	}
}

// unfinished does not include completed: a job also completes when the limit of
// its run is reached.
var unfinished = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable,
	rivertype.JobStateRunning, rivertype.JobStateScheduled,
}

// Client is the part of river.Client that Start needs, with any driver.
type Client interface {
	InsertMany(ctx context.Context, params []river.InsertManyParams) ([]*rivertype.JobInsertResult, error)
}

// mostJobs is more than the number of workers that help one table.
const mostJobs = 64

// Start begins a rotation, or finds the unfinished one of the table, and inserts
// its jobs: one for each shard, at most 64. It may be called at any time and by
// several processes at once. It does not insert existing jobs again, but does
// insert those that were discarded or cancelled. It returns before anything is
// rotated.
//
// The errors are those of [rotation.Rotator.Begin], such as [rotation.ErrPaused],
// and those of River.
func Start(ctx context.Context, client Client, r *rotation.Rotator) (rotation.Status, error) {
	if r.Table() == "" || missing.Is(client) {
		return rotation.Status{}, fmt.Errorf("kmsriver: %w: a client and a Rotator are needed", kmsencrypted.ErrConfig)
	}
	status, err := r.Begin(ctx)
	if err != nil {
		return status, err
	}
	jobs := make([]river.InsertManyParams, min(status.Shards, mostJobs))
	for i := range jobs {
		jobs[i].Args = Job{Table: r.Table(), Run: status.ID, Number: i}
	}
	if _, err := client.InsertMany(ctx, jobs); err != nil {
		return status, fmt.Errorf("kmsriver: insert the jobs of %s: %w", r.Table(), err)
	}
	return status, nil
}
