package sqlstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

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
