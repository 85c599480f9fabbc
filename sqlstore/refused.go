package sqlstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// isRefusal reports that the database does not take a row: a constraint, a
// trigger or a column that is too short.
func isRefusal(err error) bool {
	if state, ok := sqlState(err); ok {
		return strings.HasPrefix(state, "22") || strings.HasPrefix(state, "23") || strings.HasPrefix(state, "P0")
	}
	text := err.Error()
	for _, known := range []string{"(22001)", "(23000)", "(45000)", "constraint failed", "SQLITE_CONSTRAINT"} {
		if strings.Contains(text, known) {
			return true
		}
	}
	return false
}

// setAside finds the updates that the database refuses by trying each for itself,
// makes failures of them, and takes all of it back.
func (b *batch[R]) setAside(ctx context.Context, s *swap) error {
	refused := make(map[int]error)
	err := again(func() error {
		clear(refused)
		tx, err := b.store.begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		for i := range s.updates {
			err := b.store.try(ctx, tx, &swap{run: s.run, set: s.set, same: s.same, updates: s.updates[i : i+1], written: make([]bool, 1)})
			switch {
			case err != nil && isRefusal(err):
				refused[i] = err
			case err != nil:
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	indexes, updates := s.indexes[:0], s.updates[:0]
	for i, u := range s.updates {
		if err, ok := refused[i]; ok {
			b.records[s.indexes[i]].state = failed
			b.failures = append(b.failures, rotation.Failure{
				Record: b.store.recordName(u.id), Class: "database", Err: refusal(err),
			})
			continue
		}
		indexes, updates = append(indexes, s.indexes[i]), append(updates, u)
	}
	s.indexes, s.updates = indexes, updates
	return nil
}

// try makes an update that does not spoil the transaction if it fails.
func (s *Store[R]) try(ctx context.Context, tx *sqlx.Tx, w *swap) error {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT kms_rotation"); err != nil {
		return err
	}
	failed := s.writes(ctx, tx, w)
	undo := "RELEASE SAVEPOINT kms_rotation"
	if failed != nil {
		undo = "ROLLBACK TO SAVEPOINT kms_rotation"
	}
	if _, err := tx.ExecContext(ctx, undo); err != nil {
		return err
	}
	return failed
}

// refusal keeps of the database's error what cannot quote a value.
func refusal(err error) error {
	if state, ok := sqlState(err); ok {
		return fmt.Errorf("the database refuses the row: SQLSTATE %s", state)
	}
	kind, _, _ := strings.Cut(err.Error(), ":")
	return fmt.Errorf("the database refuses the row: %s", kind)
}
