package rotation

import (
	"context"
	"time"
)

// Status is what the ledger knows of a run. Times are those of the database.
type Status struct {
	Run
	Shards, ShardsDone int // of this pass
	// Working is how many shards are held by a worker now.
	Working int
	Outcome       // Failed is that of this pass
	Calls   int64 // values that went to the key service
	// Busy is the time that all workers together spent on batches that were written.
	Busy time.Duration
	// Waiting is why the run waits, empty if it does not: the text of a [Check]
	// or of an error of the key service.
	Waiting string
	Started time.Time
	Ended   time.Time // zero: not yet
	// Verified is when all records were last found to be clean after this run;
	// see [VerifyOptions.Note]. Zero: never.
	Verified time.Time
}

// Rate is how many records a second are written by the workers that are at work
// now, or by one if none is; 0 if nothing is known yet.
func (s Status) Rate() float64 {
	if s.Busy <= 0 {
		return 0
	}
	return float64(s.Written+s.Conflicts+s.Failed) / s.Busy.Seconds() * float64(max(1, s.Working))
}

// Report is what there is to know of the rotation of a table.
type Report struct {
	Plan // what is left to do, by version
	// Last is the unfinished run, or else the latest one; nil if there was none.
	Last *Status
	// Failures counts the failed records of that run by their [Failure.Class].
	Failures map[string]int64
	// Left is about how long the rest takes, 0 if that cannot be told yet or
	// nothing is left.
	Left time.Duration
}

// Status returns what the ledger says of the latest run, and false if there was
// none. It reads no record; [Rotator.Report] does.
func (r *Rotator) Status(ctx context.Context) (Status, bool, error) {
	s, found, err := r.store.Newest(ctx)
	return s, found, r.failed("status", err)
}

// History lists the latest runs of the table, the newest first; 0 lists all.
func (r *Rotator) History(ctx context.Context, limit int) ([]Status, error) {
	runs, err := r.store.History(ctx, limit)
	return runs, r.failed("history", err)
}

// Report tells how far the table is: records by version, what is left, failures
// by reason, time left. It counts the table.
func (r *Rotator) Report(ctx context.Context) (Report, error) {
	report, err := r.report(ctx)
	return report, r.failed("report", err)
}

func (r *Rotator) report(ctx context.Context) (report Report, err error) {
	if report.Plan, err = r.plan(ctx); err != nil {
		return report, err
	}
	last, found, err := r.store.Newest(ctx)
	if err != nil || !found {
		return report, err
	}
	report.Last = &last
	if report.Failures, err = r.store.FailureCounts(ctx, last.ID); err != nil {
		return report, err
	}
	left := report.Records - last.Failed
	if last.Kind.SelectsDone() { // what is done does not show in the records
		left = last.Planned - last.Written
	}
	if rate := last.Rate(); rate > 0 && left > 0 && last.State.Unfinished() {
		report.Left = time.Duration(float64(left) / rate * float64(time.Second))
	}
	return report, nil
}

// Failures lists the failed records of the latest run, at most limit of them; 0
// lists all.
func (r *Rotator) Failures(ctx context.Context, limit int) ([]Failure, error) {
	s, found, err := r.store.Newest(ctx)
	if err != nil || !found {
		return nil, r.failed("failures", err)
	}
	failures, err := r.store.Failures(ctx, s.ID, limit)
	return failures, r.failed("failures", err)
}
