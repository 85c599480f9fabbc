package rotation

import "context"

// HealOptions configure [Rotator.Heal].
type HealOptions struct {
	// DryRun counts what could be mended, without changing it.
	DryRun bool
}

// Healing is the result of [Rotator.Heal].
type Healing struct {
	Run string
	// Looked is the number of records whose key the run replaced and that still
	// exist.
	Looked int64
	// Mended is the number of them with a column that did not open and now does.
	Mended int64
	// Records names the mended ones, like [Failure].Record.
	Records []string
	// Conflicts is the number of records that changed while they were being mended.
	// Heal again.
	Conflicts int64
	// Failures are the records with a column that no key opens.
	Failures []Failure
}

func (h *Healing) add(m Healing) {
	h.Looked += m.Looked
	h.Mended += m.Mended
	h.Records = append(h.Records, m.Records...)
	h.Conflicts += m.Conflicts
	h.Failures = append(h.Failures, m.Failures...)
}

// Heal mends columns that writers left under an old data key, because they did not
// compare the key column during a rekey or migration. Such a column does not open
// under its record's data key, but under one that this run replaced and that is in
// the journal. Heal seals it again under the record's own key, if the whole record
// has not changed since it was read.
//
// It does not mend a record under a version with [kmsencrypted.Version.RecordSeal],
// whose seal says that a column was set back.
//
// Heal also puts back the wrapped key that a run replaced, wrapped again under the
// current version, if the record's own does not open.
//
// It examines only the records of that run. A verification never heals, because
// healing accepts an old ciphertext as a valid value: somebody who can write to
// the database could put one there. Run [Rotator.Verify] first; Heal should report
// the same number of failures.
func (r *Rotator) Heal(ctx context.Context, run string, options HealOptions) (Healing, error) {
	if err := r.usable(); err != nil {
		return Healing{}, r.failed("heal", err)
	}
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
