package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

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
