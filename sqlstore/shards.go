package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

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
