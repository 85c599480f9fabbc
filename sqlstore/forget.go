package sqlstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// ForgetKey erases the replaced wrapped keys that the journal keeps under a key, for a
// program that destroys this key, such as that of one tenant. keyID is its
// [kmsencrypted.KeyInfo] KeyID. It returns their number.
func (s *Store[R]) ForgetKey(ctx context.Context, db Execer, keyID string) (int64, error) {
	return s.forget(ctx, db, "forget a key", "store", keyID)
}

// ForgetBranch erases the replaced wrapped keys that the journal keeps under the key of a
// branch, for a program that erases this branch. store and branch are those of
// [rotation.BranchKeeper]. It returns their number.
func (s *Store[R]) ForgetBranch(ctx context.Context, db Execer, store, branch string) (int64, error) {
	return s.forget(ctx, db, "forget a branch", "store", store, "branch", branch)
}

// forget erases the journal where some columns hold these texts.
func (s *Store[R]) forget(ctx context.Context, db Execer, op string, is ...string) (int64, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	query, args := "DELETE FROM kms_rotation_journal WHERE table_name = ?", []any{s.ledgerName}
	for column := range slices.Chunk(is, 2) {
		compared, before, after := s.dialect.Exact(column[0])
		query += " AND " + compared + " = " + before + "?" + after
		args = append(args, column[1])
	}
	result, err := db.ExecContext(ctx, s.dialect.SQL(query), args...)
	if err != nil {
		return 0, ledgerError(op, err)
	}
	return result.RowsAffected()
}

// Forget erases what the journal and the failures of runs contain about records,
// for a program that erases these records. With an old wrapped key, a copy of the
// record in a backup could still be read. Forget uses only the primary keys of the
// rows.
func (s *Store[R]) Forget(ctx context.Context, db Execer, rows ...*R) error {
	if err := s.usable(); err != nil {
		return err
	}
	for _, row := range rows {
		id, err := s.idValues(row)
		if err != nil {
			return err
		}
		if _, err := s.exec(ctx, db, "DELETE FROM kms_rotation_journal WHERE table_name = ? AND record = ?", s.ledgerName, encodeKey(id)); err != nil {
			return ledgerError("forget a record", err)
		}
		_, err = s.exec(ctx, db, `DELETE FROM kms_rotation_failures WHERE record = ? AND rotation_id IN
			(SELECT id FROM kms_rotations WHERE table_name = ?)`, s.recordName(id), s.ledgerName)
		if err != nil {
			return ledgerError("forget a record", err)
		}
	}
	return nil
}

// forgetRewraps bounds the journal: a rewrap begins, and of the ones before it nothing
// is needed any more once all records were verified. A backup has its own wrapped keys.
func (s *Store[R]) forgetRewraps(ctx context.Context) error {
	const most = 10_000 // in one transaction
	for erased := int64(most); erased >= most; {
		err := s.retried(ctx, "bound the journal", func(tx *sqlx.Tx) error {
			result, err := tx.ExecContext(ctx, s.dialect.SQL(fmt.Sprintf(`DELETE FROM kms_rotation_journal WHERE id IN (SELECT id FROM (
				SELECT j.id FROM kms_rotation_journal j JOIN kms_rotations r ON r.id = j.rotation_id WHERE j.table_name = ? AND r.kind = ? AND r.active IS NULL
					AND r.started <= (SELECT coalesce(max(started), -1) FROM kms_rotations WHERE table_name = ? AND verified IS NOT NULL)
				LIMIT %d) AS these)`, most)), s.ledgerName, string(rotation.Rewrap), s.ledgerName)
			if err != nil {
				return err
			}
			erased, err = result.RowsAffected()
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
