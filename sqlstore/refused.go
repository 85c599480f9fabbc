package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// setAside tries each update separately to find those that the database refuses,
// turns them into failures, and undoes all updates.
func (b *batch[R]) setAside(ctx context.Context, s *swap) error {
	refused := make(map[int]error)
	tryEach := func(conn *sqlx.Conn) error {
		clear(refused)
		tx, err := b.store.begin(ctx, conn)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		for i := range s.updates {
			err := b.store.try(ctx, tx, &swap{run: s.run, set: s.set, same: s.same, updates: s.updates[i : i+1], written: make([]bool, 1)})
			left, isLeft := errors.AsType[leftOut](err)
			switch {
			case isLeft:
				refused[i] = left.Failures[0].Err
			case err != nil && sqldialect.RefusesRow(err):
				refused[i] = refusal(err)
			case err != nil:
				return err
			}
		}
		return nil
	}
	if err := again(func() error { return b.store.inSession(ctx, tryEach) }); err != nil {
		return err
	}
	var causes field.Failures
	for i, err := range refused {
		causes = append(causes, field.Failure{Index: i, Err: err})
	}
	b.leaveOut(s, causes)
	return nil
}

// leftOut is the error of a batch in which some updates cannot be made. The batch is
// repeated without them.
type leftOut struct{ field.Failures }

// leaveOut turns such records into failures, or leaves them to the next pass.
func (b *batch[R]) leaveOut(s *swap, causes field.Failures) {
	errs := make(map[int]error, len(causes))
	for _, f := range causes {
		errs[f.Index] = f.Err
	}
	var indexes []int
	var updates []update
	for i, u := range s.updates {
		err := errs[i]
		if err == nil {
			indexes, updates = append(indexes, s.indexes[i]), append(updates, u)
			continue
		}
		if kmsencrypted.Retryable(err) { // its key service does not answer: the next pass tries again
			b.records[s.indexes[i]].state, b.records[s.indexes[i]].away = waiting, err
			continue
		}
		b.records[s.indexes[i]].state = failed
		b.failures = append(b.failures, rotation.Failure{Record: b.store.recordName(u.id), Class: classOf(err), Err: err})
	}
	s.indexes, s.updates = indexes, updates
}

// classOf returns the class of a failure, "database" if the database is the reason.
func classOf(err error) string {
	if errors.Is(err, errRefused) || errors.Is(err, errNotKept) || errors.Is(err, errSkipped) || errors.Is(err, errTooLarge) {
		return "database"
	}
	return rotation.FailureClass(err)
}

// try makes an update that does not abort the transaction if it fails.
func (s *Store[R]) try(ctx context.Context, tx *sqlx.Tx, w *swap) error {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT kms_rotation"); err != nil {
		return err
	}
	failed := s.writes(ctx, tx, w)
	if failed == nil && s.dialect == field.Postgres { // triggers that would wait for the end
		_, failed = tx.ExecContext(ctx, "SET CONSTRAINTS ALL IMMEDIATE")
	}
	undo := "RELEASE SAVEPOINT kms_rotation"
	if failed != nil {
		undo = "ROLLBACK TO SAVEPOINT kms_rotation"
	}
	if _, err := tx.ExecContext(ctx, undo); err != nil {
		return err
	}
	return failed
}

// errRefused is the reason of a failure of a row that the database refuses.
var errRefused = errors.New("the database refuses the row")

// refusal keeps only the part of the database's error that cannot quote a value.
func refusal(err error) error {
	if state, ok := sqldialect.SQLState(err); ok {
		return fmt.Errorf("%w: SQLSTATE %s", errRefused, state)
	}
	kind, _, _ := strings.Cut(err.Error(), ":")
	return fmt.Errorf("%w: %s", errRefused, kind)
}
