package sqlstore

import (
	"context"
	"database/sql"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// NextPass ends a pass whose shards are all done.
func (s *Store[R]) NextPass(ctx context.Context, run string, pass int) (ended bool, err error) {
	var seen leftovers
	err = s.retried(ctx, "next pass", func(tx *sqlx.Tx) error {
		ended, seen = false, leftovers{}
		// First, because this locks the run.
		ours, err := s.exec(ctx, tx, "UPDATE kms_rotations SET pass = pass + 1 WHERE id = ? AND pass = ? AND active = 1", run, pass)
		if err != nil || !ours {
			return err
		}
		var sel rotation.Selection
		var part sql.Null[string]
		if err := tx.QueryRowContext(ctx, s.dialect.SQL("SELECT kind, target, part FROM kms_rotations WHERE id = ?"), run).Scan(&sel.Kind, &sel.Target, &part); err != nil {
			return err
		}
		k := sel.Kind
		sel.Part = part.V
		// If done records are selected again, only conflicts require another pass.
		changed := "pass_changes"
		if k.SelectsDone() {
			changed = "pass_conflicts"
		}
		var left, again int64
		err = tx.QueryRowContext(ctx, s.dialect.SQL("SELECT sum(1 - done), sum("+changed+") FROM kms_rotation_shards WHERE rotation_id = ?"), run).Scan(&left, &again)
		if err != nil {
			return err
		}
		if left > 0 { // of a pass that another process began meanwhile
			_, err = s.exec(ctx, tx, "UPDATE kms_rotations SET pass = pass - 1 WHERE id = ?", run)
			return err
		}
		ended = true
		if again == 0 && !k.SelectsDone() {
			if seen, err = s.leftovers(ctx, tx, run, sel); err != nil {
				return err
			}
		}
		if again == 0 && (seen.records == 0 || s.seen.is(seen)) {
			_, err = s.exec(ctx, tx, "UPDATE kms_rotations SET pass = pass - 1, state = ?, active = NULL, ended = {now}, waiting = NULL WHERE id = ?",
				string(rotation.RunDone), run)
			return err
		}
		return s.restart(ctx, tx, run, k.SelectsDone())
	})
	if ended && err == nil {
		s.seen.note(seen)
	}
	return ended && err == nil, err
}

// leftovers are the records that a run selects after a pass that changed nothing, without
// those that failed in it. There are some if the database failed over between the
// reading of a shard and its end: another program had moved records, so that the pass did
// not meet them, and that is lost. No lease tells, because the shard is as it was. So the
// table is looked at in the transaction that ends the run.
//
// A record may also be selected and need no change. So the same leftovers cause one more
// pass in each process, and no second one.
type leftovers struct {
	run     string
	records int64
}

func (s *Store[R]) leftovers(ctx context.Context, tx *sqlx.Tx, run string, sel rotation.Selection) (l leftovers, err error) {
	q := s.dialect.Statement("SELECT count(*) FROM ", s.dialect.QuotedTable(s.Table()), " WHERE 1 = 1")
	if err := s.where(q, sel); err != nil {
		return l, err
	}
	if err := tx.GetContext(ctx, &l.records, q.String(), q.Args...); err != nil {
		return l, err
	}
	var failed int64
	err = tx.GetContext(ctx, &failed, s.dialect.SQL("SELECT sum(pass_failed) FROM kms_rotation_shards WHERE rotation_id = ?"), run)
	l.run, l.records = run, max(0, l.records-failed)
	return l, err
}

// lastSeen remembers the leftovers of the last pass that this process ended.
type lastSeen struct {
	mu   sync.Mutex
	last leftovers
}

func (s *lastSeen) is(l leftovers) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last == l
}

func (s *lastSeen) note(l leftovers) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = l
}

// restart restarts the shards of a run, or only those with conflicts.
func (s *Store[R]) restart(ctx context.Context, tx *sqlx.Tx, run string, conflictsOnly bool) error {
	which := "rotation_id = ?"
	if conflictsOnly {
		which += " AND pass_conflicts > 0"
	}
	// The new pass tries the failed records again.
	_, err := s.exec(ctx, tx, `DELETE FROM kms_rotation_failures WHERE rotation_id = ? AND shard IN
		(SELECT shard FROM kms_rotation_shards WHERE `+which+`)`, run, run)
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, tx, `UPDATE kms_rotation_shards SET after_key = from_key, done = 0, owner = '',
		pass_changes = 0, pass_conflicts = 0, pass_failed = 0 WHERE `+which, run)
	return err
}
