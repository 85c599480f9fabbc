package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

func ledgerError(op string, err error) error {
	if err == nil || errors.Is(err, rotation.ErrLeaseLost) {
		return err
	}
	return fmt.Errorf("sqlstore: %s: %w", op, markAway(older(err)))
}

// older says what to do about tables that are missing, or lack a column of this release.
func older(err error) error {
	if sqldialect.NoTable(err) || sqldialect.NoColumn(err) {
		return fmt.Errorf("%w: the tables of rotations are missing or of an older release: call CreateTables, or type \"rotate init\": %w", kmsencrypted.ErrConfig, err)
	}
	return err
}

// again repeats an operation that changes nothing if it fails, until it loses no
// race with other transactions.
func again(do func() error) (err error) { return repeated(do, sqldialect.Transient) }

// patiently is like again, and also repeats the operation if it waits too long for a
// lock.
func patiently(do func() error) error {
	return repeated(do, func(err error) bool { return sqldialect.Transient(err) || isLockTimeout(err) })
}

func repeated(do func() error, passes func(error) bool) (err error) {
	const tries = 10
	for try := range tries {
		if err = do(); err == nil || !passes(err) {
			break
		}
		time.Sleep(time.Duration(try+1) * 10 * time.Millisecond)
	}
	return err
}

// retried runs a transaction of the ledger.
func (s *Store[R]) retried(ctx context.Context, op string, do func(*sqlx.Tx) error) error {
	if err := s.usable(); err != nil {
		return err
	}
	return ledgerError(op, patiently(func() error { return s.transaction(ctx, do) }))
}

func (s *Store[R]) transaction(ctx context.Context, do func(*sqlx.Tx) error) error {
	return s.inSession(ctx, func(conn *sqlx.Conn) error {
		tx, err := s.begin(ctx, conn)
		if err != nil {
			return err
		}
		defer tx.Rollback() // does nothing after Commit
		if err := do(tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// Execer is a database or a transaction.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// exec runs a statement and reports whether it changed any row.
func (s *Store[R]) exec(ctx context.Context, db Execer, query string, args ...any) (changed bool, err error) {
	result, err := db.ExecContext(ctx, s.dialect.SQL(query), args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// Newest returns the unfinished run of the table, or otherwise the latest one.
func (s *Store[R]) Newest(ctx context.Context) (rotation.Status, bool, error) {
	runs, err := s.runs(ctx, "CASE WHEN active = 1 THEN 0 ELSE 1 END, started DESC", 1)
	if err != nil || len(runs) == 0 {
		return rotation.Status{}, false, ledgerError("status", err)
	}
	return runs[0], true, nil
}

// History returns the latest runs of the table, the newest first.
func (s *Store[R]) History(ctx context.Context, limit int) ([]rotation.Status, error) {
	runs, err := s.runs(ctx, "started DESC", limit)
	return runs, ledgerError("history", err)
}

func (s *Store[R]) runs(ctx context.Context, order string, limit int) (runs []rotation.Status, err error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	query := `SELECT id, kind, state, target, pass, planned, started, ended, verified, waiting, part, no_journal FROM kms_rotations
		WHERE table_name = ? ORDER BY ` + order
	if limit > 0 {
		query += fmt.Sprintf(" LIMIT %d", limit)
	}
	rows, err := s.db.QueryContext(ctx, s.dialect.SQL(query), s.ledgerName)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r rotation.Status
		var started, ended, verified sql.Null[int64]
		var waiting, part sql.Null[string]
		var noJournal sql.Null[int64]
		if err := rows.Scan(&r.ID, &r.Kind, &r.State, &r.Target, &r.Pass, &r.Planned, &started, &ended, &verified, &waiting, &part, &noJournal); err != nil {
			return nil, err
		}
		r.Started, r.Ended, r.Verified, r.Waiting, r.Part = timeOf(started), timeOf(ended), timeOf(verified), waiting.V, part.V
		r.NoJournal = noJournal.V == 1
		runs = append(runs, r)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	rows.Close()
	for i := range runs {
		if err := s.sumUp(ctx, &runs[i]); err != nil {
			return nil, err
		}
	}
	return runs, nil
}

// sumUp adds the counts of a run's shards.
func (s *Store[R]) sumUp(ctx context.Context, r *rotation.Status) error {
	var busy, reading, rotating, waited, writing int64
	err := s.db.QueryRowContext(ctx, s.dialect.SQL(`SELECT count(*), coalesce(sum(done), 0), coalesce(sum(CASE WHEN owner <> '' AND lease_until >= {now} THEN 1 ELSE 0 END), 0),
		coalesce(sum(written), 0), coalesce(sum(conflicts), 0), coalesce(sum(pass_failed), 0), coalesce(sum(calls), 0), coalesce(sum(busy), 0),
		coalesce(sum(reading), 0), coalesce(sum(rotating), 0), coalesce(sum(waited), 0), coalesce(sum(writing), 0)
		FROM kms_rotation_shards WHERE rotation_id = ?`), r.ID).
		Scan(&r.Shards, &r.ShardsDone, &r.Working, &r.Written, &r.Conflicts, &r.Failed, &r.Calls, &busy,
			&reading, &rotating, &waited, &writing)
	r.Busy = time.Duration(busy) * time.Millisecond
	r.Stages = rotation.Stages{Read: micro(reading), Rotate: micro(rotating), Wait: micro(waited), Write: micro(writing)}
	return err
}

func micro(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

func number(is bool) int {
	if is {
		return 1
	}
	return 0
}

// orNull returns NULL for an empty text.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// timeOf returns a time of the ledger; NULL is the zero time.
func timeOf(ms sql.Null[int64]) (t time.Time) {
	if ms.Valid {
		t = time.UnixMilli(ms.V)
	}
	return t
}

// Start starts a run. It returns the error of [Store.Ready] if it must not.
func (s *Store[R]) Start(ctx context.Context, run rotation.Run, shards []rotation.Range) error {
	if err := s.Ready(ctx, run.Kind); err != nil {
		return err
	}
	if run.Kind == rotation.Rewrap {
		if err := s.forgetRewraps(ctx); err != nil {
			return err
		}
	}
	err := s.retried(ctx, "start", func(tx *sqlx.Tx) error {
		// Of two runs within a millisecond, the later one must be the newest.
		_, err := s.exec(ctx, tx, `INSERT INTO kms_rotations (id, table_name, kind, target, pass, state, planned, part, no_journal, active, started)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, (SELECT CASE WHEN latest >= {now} THEN latest + 1 ELSE {now} END
				FROM (SELECT coalesce(max(started), 0) AS latest FROM kms_rotations) AS earlier))`, run.ID, s.ledgerName, string(run.Kind), run.Target, run.Pass, string(run.State), run.Planned, orNull(run.Part), number(run.NoJournal))
		if err != nil {
			return err
		}
		values := make([][]any, len(shards))
		for i, r := range shards {
			values[i] = []any{run.ID, i, r.After, r.After, r.To, 0, "", 0, 0, 0, 0, 0, 0, 0, 0, 0}
		}
		return s.insert(ctx, tx, "kms_rotation_shards", []string{"rotation_id", "shard", "from_key", "after_key", "to_key",
			"done", "owner", "lease_until", "beat", "written", "conflicts", "calls", "busy", "pass_changes", "pass_conflicts", "pass_failed"}, values)
	})
	if err == nil {
		return nil
	}
	// Drivers report a duplicate key in different ways, so look for the run.
	if status, found, statusErr := s.Newest(ctx); statusErr == nil && found && status.State.Unfinished() {
		return kmsencrypted.ErrConflict
	}
	return err
}

// suits refuses a kind of rotation that would lose something or has nothing to do.
func (s *Store[R]) suits(k rotation.Kind) error {
	switch {
	case (k.ReplacesKeys() || k == rotation.FirstKey) && s.model.KeysOnly():
		return errors.New("the model declares its keys only, and every column is needed")
	case (k.ReplacesKeys() || k == rotation.FirstKey) && len(s.unknown) > 0:
		return field.UnknownColumnsError(s.unknown)
	case k == rotation.Reindex && len(s.storedIndexes()) == 0:
		return errors.New("the model has no blind index of a column")
	}
	return nil
}

// Take leases a free shard.
func (s *Store[R]) Take(ctx context.Context, run, owner string, number int, lease time.Duration) (rotation.Shard, rotation.Offer, error) {
	if err := s.usable(); err != nil {
		return rotation.Shard{}, rotation.OfferWait, err
	}
	shard := rotation.Shard{Run: run, Owner: owner}
	offer := rotation.OfferWait
	err := patiently(func() (err error) {
		return s.inSession(ctx, func(conn *sqlx.Conn) (err error) {
			offer, err = s.take(ctx, conn, &shard, number, lease)
			return err
		})
	})
	return shard, offer, ledgerError("take a shard", err)
}

// take needs no transaction: the UPDATE shows whether the shard was still free.
func (s *Store[R]) take(ctx context.Context, conn *sqlx.Conn, shard *rotation.Shard, number int, lease time.Duration) (rotation.Offer, error) {
	var state string
	err := conn.QueryRowContext(ctx, s.dialect.SQL("SELECT state, pass FROM kms_rotations WHERE id = ?"), shard.Run).Scan(&state, &shard.Pass)
	if err != nil || state != string(rotation.RunActive) {
		return rotation.OfferNothing, err
	}
	for {
		err := conn.QueryRowContext(ctx, s.dialect.SQL(`SELECT shard, after_key, to_key FROM kms_rotation_shards
			WHERE rotation_id = ? AND done = 0 AND (shard = ? OR ? < 0) AND (owner = '' OR lease_until < {now}) ORDER BY shard LIMIT 1`),
			shard.Run, number, number).
			Scan(&shard.Number, &shard.After, &shard.To)
		if errors.Is(err, sql.ErrNoRows) {
			break
		}
		if err != nil {
			return rotation.OfferWait, err
		}
		taken, err := s.exec(ctx, conn, `UPDATE kms_rotation_shards SET owner = ?, lease_until = {now} + ?, beat = beat + 1
			WHERE rotation_id = ? AND shard = ? AND done = 0 AND after_key = ? AND (owner = '' OR lease_until < {now})`,
			shard.Owner, lease.Milliseconds(), shard.Run, shard.Number, shard.After)
		if taken || err != nil {
			return rotation.OfferShard, err
		}
	}
	var left int
	err = conn.QueryRowContext(ctx, s.dialect.SQL("SELECT count(*) FROM kms_rotation_shards WHERE rotation_id = ? AND done = 0"), shard.Run).Scan(&left)
	if left == 0 {
		return rotation.OfferNextPass, err
	}
	return rotation.OfferWait, err
}

// Keep extends the lease of a shard.
func (s *Store[R]) Keep(ctx context.Context, shard rotation.Shard, lease time.Duration) error {
	if err := s.usable(); err != nil {
		return err
	}
	held, err := s.exec(ctx, s.db, `UPDATE kms_rotation_shards SET lease_until = {now} + ?, beat = beat + 1
		WHERE rotation_id = ? AND shard = ? AND owner = ? AND done = 0
		AND EXISTS (SELECT 1 FROM kms_rotations WHERE id = rotation_id AND state = 'active')`, lease.Milliseconds(), shard.Run, shard.Number, shard.Owner)
	if err == nil && !held {
		err = rotation.ErrLeaseLost
	}
	return ledgerError("keep a shard", err)
}

// Release gives a shard back.
func (s *Store[R]) Release(ctx context.Context, shard rotation.Shard) error {
	return s.retried(ctx, "release a shard", func(tx *sqlx.Tx) error {
		_, err := s.exec(ctx, tx, `UPDATE kms_rotation_shards SET owner = CASE WHEN owner = ? THEN '' ELSE owner END, calls = calls + ?
			WHERE rotation_id = ? AND shard = ?`, shard.Owner, shard.Calls, shard.Run, shard.Number)
		return err
	})
}

// advance moves a shard on in the transaction that wrote its records. The owner
// fences off a worker whose lease has ended: its transaction fails here. So does that of
// a worker that is ahead of the ledger, because a database that failed over has lost its
// last batches: it would leave them out.
func (s *Store[R]) advance(ctx context.Context, tx *sqlx.Tx, to rotation.Position, o rotation.Outcome) error {
	after, owner, done := to.After, to.Shard.Owner, 0
	if after == "" {
		after = to.Shard.After
	}
	if to.Done {
		owner, done = "", 1
	}
	held, err := s.exec(ctx, tx, `UPDATE kms_rotation_shards SET after_key = ?, done = ?, owner = ?, lease_until = {now} + ?, beat = beat + 1,
		written = written + ?, conflicts = conflicts + ?, calls = calls + ?, busy = busy + ?, pass_changes = pass_changes + ?, pass_conflicts = pass_conflicts + ?, pass_failed = pass_failed + ?,
		reading = coalesce(reading, 0) + ?, rotating = coalesce(rotating, 0) + ?, waited = coalesce(waited, 0) + ?, writing = coalesce(writing, 0) + ?
		WHERE rotation_id = ? AND shard = ? AND owner = ? AND done = 0 AND after_key = ?
		AND EXISTS (SELECT 1 FROM kms_rotations WHERE id = rotation_id AND state = 'active')`,
		after, done, owner, to.Lease.Milliseconds(), o.Written, o.Conflicts, to.Calls, to.Busy.Milliseconds(), o.Written+o.Conflicts, o.Conflicts, o.Failed,
		to.Stages.Read.Microseconds(), to.Stages.Rotate.Microseconds(), to.Stages.Wait.Microseconds(), to.Stages.Write.Microseconds(),
		to.Shard.Run, to.Shard.Number, to.Shard.Owner, to.Shard.After)
	if err == nil && !held {
		err = rotation.ErrLeaseLost
	}
	return err
}

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

// SetState pauses, resumes or cancels a run.
func (s *Store[R]) SetState(ctx context.Context, run string, state rotation.RunState) error {
	query := "UPDATE kms_rotations SET state = ? WHERE id = ? AND active = 1"
	if !state.Unfinished() {
		query = "UPDATE kms_rotations SET state = ?, active = NULL, ended = {now}, waiting = NULL WHERE id = ? AND active = 1"
	}
	return s.retried(ctx, "set the state", func(tx *sqlx.Tx) error {
		_, err := s.exec(ctx, tx, query, string(state), run)
		return err
	})
}

// SetWaiting stores why a run waits.
func (s *Store[R]) SetWaiting(ctx context.Context, run, reason string) error {
	return s.retried(ctx, "say why it waits", func(tx *sqlx.Tx) error {
		_, err := s.exec(ctx, tx, "UPDATE kms_rotations SET waiting = ? WHERE id = ? AND active = 1", orNull(cut(reason)), run)
		return err
	})
}

// SetVerified records with the latest run, if it is done, that everything was
// clean, or removes that from all runs.
func (s *Store[R]) SetVerified(ctx context.Context, clean bool) error {
	if !clean {
		return s.retried(ctx, "take the verification back", func(tx *sqlx.Tx) error {
			_, err := s.exec(ctx, tx, "UPDATE kms_rotations SET verified = NULL WHERE table_name = ?", s.ledgerName)
			return err
		})
	}
	status, found, err := s.Newest(ctx)
	if err != nil || !found || status.State.Unfinished() {
		return err
	}
	return s.retried(ctx, "note the verification", func(tx *sqlx.Tx) error {
		_, err := s.exec(ctx, tx, "UPDATE kms_rotations SET verified = {now} WHERE id = ? AND active IS NULL", status.ID)
		return err
	})
}

// FailureCounts returns the number of failed records of the last pass by class.
func (s *Store[R]) FailureCounts(ctx context.Context, run string) (map[string]int64, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	var groups []struct {
		Class string
		Rows  int64
	}
	err := s.db.SelectContext(ctx, &groups, s.dialect.SQL(fmt.Sprintf(`SELECT class AS %s, count(*) AS %s FROM kms_rotation_failures
		WHERE rotation_id = ? GROUP BY class`, s.dialect.Quoted("Class"), s.dialect.Quoted("Rows"))), run)
	counts := make(map[string]int64)
	for _, g := range groups {
		counts[g.Class] = g.Rows
	}
	return counts, ledgerError("failures", err)
}

// Failures returns the failed records of the last pass.
func (s *Store[R]) Failures(ctx context.Context, run string, limit int) ([]rotation.Failure, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	query := "SELECT record, class, reason FROM kms_rotation_failures WHERE rotation_id = ? ORDER BY shard, id"
	if limit > 0 {
		query += fmt.Sprintf(" LIMIT %d", limit)
	}
	rows, err := s.db.QueryContext(ctx, s.dialect.SQL(query), run)
	if err != nil {
		return nil, ledgerError("failures", err)
	}
	defer rows.Close()
	var failures []rotation.Failure
	for rows.Next() {
		var f rotation.Failure
		var reason string
		if err := rows.Scan(&f.Record, &f.Class, &reason); err != nil {
			return nil, ledgerError("failures", err)
		}
		f.Err = errors.New(reason)
		failures = append(failures, f)
	}
	return failures, ledgerError("failures", rows.Err())
}
