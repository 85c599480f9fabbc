package rotation

import (
	"context"
	"time"
)

// Status is the state of a run in the ledger. Times are those of the database.
type Status struct {
	Run
	Shards, ShardsDone int // of this pass
	// Working is the number of shards that a worker holds now.
	Working int
	Outcome       // Failed counts this pass
	Calls   int64 // requests to the key service, with all attempts
	// Busy is the time that all workers together spent on written batches.
	Busy time.Duration
	// Stages is what this time was spent on. The stages of consecutive batches overlap, so
	// their sum exceeds Busy. The writing of the last batch of each process is missing.
	Stages Stages
	// Waiting is why the run waits, or empty: the reason of a [Check] or the text
	// of an error of the key service.
	Waiting string
	Started time.Time
	Ended   time.Time // zero if unfinished
	// Verified is the time of the last clean verification of all records after this
	// run, see [VerifyOptions.Note]; zero if there was none.
	Verified time.Time
}

// Rate returns the number of records written per second by the workers active
// now, or by one if none is; 0 if unknown.
func (s Status) Rate() float64 {
	if s.Busy <= 0 {
		return 0
	}
	return float64(s.Written+s.Conflicts+s.Failed) / s.Busy.Seconds() * float64(max(1, s.Working))
}

// Report describes the rotation of a table.
type Report struct {
	Plan // what is left to do, by version
	// Last is the unfinished run, or otherwise the latest; nil if there was none.
	Last *Status
	// Failures counts the failed records of that run by their [Failure.Class].
	Failures map[string]int64
	// Left is the estimated time for the rest, 0 if it cannot be estimated yet or
	// nothing is left.
	Left time.Duration
}

// Status returns the ledger's state of the latest run, and false if there was
// none. It reads no record; [Rotator.Report] does.
func (r *Rotator) Status(ctx context.Context) (Status, bool, error) {
	s, found, err := r.newest(ctx)
	return s, found, r.failed("status", err)
}

// History returns the latest runs of the table, the newest first; a limit of 0
// returns all.
func (r *Rotator) History(ctx context.Context, limit int) ([]Status, error) {
	if err := r.usable(); err != nil {
		return nil, r.failed("history", err)
	}
	runs, err := r.store.History(ctx, limit)
	return runs, r.failed("history", err)
}

// Report returns the progress of the table: records by version, what is left,
// failures by reason, time left. It counts the table.
func (r *Rotator) Report(ctx context.Context) (Report, error) {
	report, err := r.report(ctx)
	return report, r.failed("report", err)
}

func (r *Rotator) report(ctx context.Context) (report Report, err error) {
	if report.Plan, err = r.plan(ctx, false); err != nil {
		return report, err
	}
	last, found, err := r.newest(ctx)
	if err != nil || !found {
		return report, err
	}
	report.Last = &last
	if report.Failures, err = r.store.FailureCounts(ctx, last.ID); err != nil {
		return report, err
	}
	left := report.Records - last.Failed
	if last.Kind.SelectsDone() { // the records do not show what is done
		left = last.Planned - last.Written
	}
	if rate := last.Rate(); rate > 0 && left > 0 && last.State.Unfinished() {
		report.Left = time.Duration(float64(left) / rate * float64(time.Second))
	}
	return report, nil
}

// Failures returns the failed records of the latest run, at most limit of them;
// 0 returns all.
func (r *Rotator) Failures(ctx context.Context, limit int) ([]Failure, error) {
	s, found, err := r.newest(ctx)
	if err != nil || !found {
		return nil, r.failed("failures", err)
	}
	failures, err := r.store.Failures(ctx, s.ID, limit)
	return failures, r.failed("failures", err)
}
