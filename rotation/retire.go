package rotation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Retirement reports whether a table still needs a version of its keys.
type Retirement struct {
	Table   string
	Version int
	Rows    int64 // key columns still at the version
	// Journal is the number of replaced wrapped keys at the version in the journal. Without the
	// version they cannot heal anything: see [Rotator.ClearJournal].
	Journal int64
	// Unfinished is the unfinished run; nil if there is none.
	Unfinished *Status
	// Verified is the time of the last clean verification of every record, see
	// [VerifyOptions.Note]. It is zero if there was none, or if a later run wrote a record, met
	// a conflict or failed at one.
	Verified time.Time
	// Unseen lists what no count of this table shows. Check these yourself.
	Unseen []string
}

// ErrNotRetirable reports that something still needs the version.
var ErrNotRetirable = errors.New("version is still needed")

// Err returns nil if the version can be retired, as far as the table and its ledger show.
// Otherwise it returns [ErrNotRetirable] with the reason.
func (r Retirement) Err() error {
	var reason string
	switch {
	case r.Rows > 0:
		reason = fmt.Sprintf("%d key columns of %s are at it", r.Rows, r.Table)
	case r.Unfinished != nil:
		reason = fmt.Sprintf("the %s of %s to version %d is unfinished", r.Unfinished.Kind, r.Table, r.Unfinished.Target)
	case r.Verified.IsZero():
		reason = fmt.Sprintf("no verification of %s has been clean since its last rotation", r.Table)
	case r.Journal > 0:
		reason = fmt.Sprintf("the journal of %s has %d keys at it: clear it first", r.Table, r.Journal)
	default:
		return nil
	}
	return fmt.Errorf("%w: version %d: %s", ErrNotRetirable, r.Version, reason)
}

// Retirable checks whether the table still needs a version. It does not if no record is at it,
// no run is unfinished, a verification was clean after the last run that had anything to move,
// and the journal has no key at it. Retirable returns [ErrNotRetirable] for the current version,
// and for one that a store writes by its method Writes(version int) bool.
// It examines only this table. On a
// replica it returns [kmsencrypted.ErrConfig], and if the table is only a part of another, such as a
// view or a partition, provided that the store tells by a method Whole(context.Context) error.
func (r *Rotator) Retirable(ctx context.Context, version int) (Retirement, error) {
	if err := r.usable(); err != nil {
		return Retirement{}, r.failed("retire a version of", err)
	}
	answer := Retirement{Table: r.store.Table(), Version: version, Unseen: []string{
		"backups and replicas that lag: restoring one brings the version back",
		"other tables and services that share the key, and secrets of Box.Encrypt outside of tables",
		"processes of an older deployment that still write the version",
		"files and attachments whose manager was not given to the store, and uploads in parts until the end of their lease",
	}}
	if writes, ok := r.store.(interface{ Writes(version int) bool }); version == r.box.Current() || ok && writes.Writes(version) {
		return answer, r.failed("retire", fmt.Errorf("%w: version %d is the current one", ErrNotRetirable, version))
	}
	return answer, r.failed("retire", r.retirable(ctx, &answer))
}

func (r *Rotator) retirable(ctx context.Context, answer *Retirement) error {
	if replica, err := r.onReplica(ctx); err != nil || replica {
		return cmp.Or(err, fmt.Errorf("%w: the database is a replica or read-only, and may lack the latest rows", kmsencrypted.ErrConfig))
	}
	counts, err := r.store.Count(ctx, "")
	if err != nil {
		return err
	}
	for _, c := range counts {
		if c.HasKey && c.Version == answer.Version {
			answer.Rows += c.Rows
		}
	}
	if s, ok := r.store.(interface{ Whole(context.Context) error }); ok {
		if err := s.Whole(ctx); err != nil {
			return err
		}
	}
	if answer.Journal, err = r.store.Journaled(ctx, answer.Version); err != nil {
		return err
	}
	last, found, err := r.store.Newest(ctx)
	if err != nil || !found {
		return err
	}
	if last.State.Unfinished() {
		answer.Unfinished = &last
	}
	answer.Verified, err = r.verified(ctx, last)
	return err
}

// verified returns when the records were found clean in their present state. The transactions
// that write records also count them, so a run without counts left them as they were verified
// before.
func (r *Rotator) verified(ctx context.Context, last Status) (time.Time, error) {
	if !last.Verified.IsZero() || !last.movedNothing() {
		return last.Verified, nil
	}
	history, err := r.store.History(ctx, 0)
	for _, run := range history {
		if !run.Verified.IsZero() || !run.movedNothing() {
			return run.Verified, err
		}
	}
	return time.Time{}, err
}

// movedNothing reports whether a run is over and had nothing to do. A conflict or failure counts
// as something to do: the run tried to move that record.
func (s Status) movedNothing() bool {
	return !s.State.Unfinished() && s.Outcome == Outcome{}
}
