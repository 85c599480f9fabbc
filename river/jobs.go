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

// Queue is the name of the queue that the jobs are in.
const Queue = "kms_rotation"

// Job is the arguments of a job: a share in the work on a run. Those of one run
// do the same; none of them is tied to a shard, so that the shards of a worker
// that was killed are taken over as soon as the ledger gives them out again,
// whatever becomes of its jobs.
type Job struct {
	Table  string `json:"table"`
	Run    string `json:"run"`
	Number int    `json:"number"` // from 0
}

// Kind is River's name for such jobs.
func (Job) Kind() string { return "kms_rotation" }

// maxAttempts counts errors, not turns: at an error a minute it is 16 hours.
const maxAttempts = 1000

// InsertOpts are River's options for such jobs: each is there once as long as it
// is not finished.
func (Job) InsertOpts() river.InsertOpts {
	return river.InsertOpts{
		Queue:       Queue,
		MaxAttempts: maxAttempts,
		UniqueOpts:  river.UniqueOpts{ByArgs: true, ByState: unfinished},
	}
}

// unfinished leaves out completed: a job is also over when its run was limited.
var unfinished = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable,
	rivertype.JobStateRunning, rivertype.JobStateScheduled,
}

// Client is what Start needs of a river.Client, whatever its driver.
type Client interface {
	InsertMany(ctx context.Context, params []river.InsertManyParams) ([]*rivertype.JobInsertResult, error)
}

// mostJobs is more than workers are useful for one table.
const mostJobs = 64

// Start begins a rotation, or finds the unfinished one of the table, and inserts
// its jobs: one for each shard, at most 64. It may be called at any time and by
// several processes at once: jobs that are there are not inserted again, and
// those that were discarded or cancelled are. It returns before anything is
// rotated.
//
// Errors are those of [rotation.Rotator.Begin], such as
// [rotation.ErrPaused], and those of River.
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
