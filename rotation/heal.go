package rotation

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// HealOptions say what [Rotator.Heal] may do.
type HealOptions struct {
	// DryRun only looks: what could be mended is counted and stays as it is.
	DryRun bool
}

// Healing is the result of [Rotator.Heal].
type Healing struct {
	Run string
	// Looked is how many records the run had replaced the key of and that are
	// still there.
	Looked int64
	// Mended is how many of them had a column that did not open and now does.
	Mended int64
	// Conflicts changed while they were being mended. Heal again.
	Conflicts int64
	// Failures are the records of which a column opens under no key.
	Failures []Failure
}

func (h *Healing) add(m Healing) {
	h.Looked += m.Looked
	h.Mended += m.Mended
	h.Conflicts += m.Conflicts
	h.Failures = append(h.Failures, m.Failures...)
}

// Heal mends what writers lost that did not compare the key column during a rekey
// or migration: columns that do not open under their record's data key, and do
// under one that this run replaced and the journal keeps. Such a column is sealed
// again under the record's own key, if the whole record is still what was read.
//
// It looks at the records of that run only, and it is never done by a
// verification, because it takes an old ciphertext for a valid value: whoever
// can write to the database could put one there. Look at the failures of
// [Rotator.Verify] first, and expect as many.
func (r *Rotator) Heal(ctx context.Context, run string, options HealOptions) (Healing, error) {
	result := Healing{Run: run}
	page := r.options.BatchSize
	if calls := r.options.Calls; calls != nil {
		page = min(page, max(1, calls.Burst()))
	}
	for after := ""; ; {
		if calls := r.options.Calls; calls != nil {
			if err := calls.Wait(ctx, page); err != nil {
				return result, r.failed("heal", err)
			}
		}
		healing, next, err := r.store.Mend(ctx, Mending{Run: run, After: after, Limit: page, DryRun: options.DryRun})
		if err != nil {
			return result, r.failed("heal", err)
		}
		result.add(healing)
		for _, f := range healing.Failures {
			r.options.Observe(Event{Type: EventFailure, Table: r.store.Table(), Run: run, Failure: &f})
		}
		if next == "" {
			return result, nil
		}
		after = next
	}
}

// ClearJournal erases the replaced wrapped keys of runs that ended longer ago than
// the grace time and after which a verification was clean ([VerifyOptions.Note]).
// It returns how many. What else may need them is the reason for a long grace
// time: files that follow a record later, and backups that somebody may restore.
// A negative grace time is [kmsencrypted.ErrConfig].
func (r *Rotator) ClearJournal(ctx context.Context, grace time.Duration) (int64, error) {
	if grace < 0 {
		return 0, r.failed("clear the journal of the", fmt.Errorf("%w: a negative grace time", kmsencrypted.ErrConfig))
	}
	n, err := r.store.ClearJournal(ctx, grace)
	return n, r.failed("clear the journal of the", err)
}
