package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Ready returns [kmsencrypted.ErrConfig] if this store refuses a rotation of that
// kind: a rekey of a table with columns that the model does not know (see
// [Options.Independent]) or with attached files that none of [Options.Dependents]
// moves, a reindex without an index, a database that is a replica or read-only, and a
// database user who lacks a right or does not see every row. Then no run starts, and an unfinished run of
// another process does not continue.
func (s *Store[R]) Ready(ctx context.Context, kind rotation.Kind) error {
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.suits(kind); err != nil {
		return fmt.Errorf("sqlstore: %w: %s of table %s: %s", kmsencrypted.ErrConfig, kind, s.Table(), err)
	}
	if err := s.mayUpdate(ctx); err != nil {
		return fmt.Errorf("sqlstore: %s of table %s: %w", kind, s.Table(), markAway(err))
	}
	if err := s.mayWrite(ctx, kind); err != nil {
		return fmt.Errorf("sqlstore: %s of table %s: %w", kind, s.Table(), markAway(err))
	}
	if err := s.seesAll(ctx); err != nil {
		return fmt.Errorf("sqlstore: %w", markAway(err))
	}
	if err := s.countsOnce(ctx); err != nil {
		return fmt.Errorf("sqlstore: %w", markAway(err))
	}
	if !kind.ReplacesKeys() {
		return nil
	}
	if s.model.HasFiles() && len(s.dependents) == 0 {
		return s.uncovered("")
	}
	for _, a := range []struct{ table, condition, value string }{
		{"kms_attachments", "record_table = ?", s.model.BoundTable()},
		{"active_storage_attachments", "record_type = ?", s.model.Name()},
	} {
		if slices.ContainsFunc(s.dependents, func(d field.Dependents) bool { return d.Covers(a.table) }) {
			continue
		}
		exists, err := s.hasTable(ctx, a.table)
		if err != nil {
			return err
		}
		var rows int
		if exists {
			err = s.db.GetContext(ctx, &rows, s.dialect.SQL("SELECT count(*) FROM (SELECT 1 FROM "+a.table+" WHERE "+a.condition+" LIMIT 1) AS found"), a.value)
		}
		if err != nil {
			return fmt.Errorf("sqlstore: attached files of %s: %w", s.Table(), markAway(err))
		}
		if rows > 0 {
			return s.uncovered(" in " + a.table)
		}
	}
	return nil
}

func (s *Store[R]) uncovered(where string) error {
	return fmt.Errorf("sqlstore: %w: records of %s have attached files%s, which a rekey would make unreadable: name their manager in Options.Dependents",
		kmsencrypted.ErrConfig, s.Table(), where)
}

func (s *Store[R]) hasTable(ctx context.Context, name string) (bool, error) {
	var n int
	err := s.db.GetContext(ctx, &n, s.dialect.SQL(dialects[s.dialect].hasTable), name)
	return n > 0, err
}

// learnDependents checks that the dependents match the model.
func (s *Store[R]) learnDependents(options Options) error {
	for _, d := range options.Dependents {
		if !slices.ContainsFunc(s.keys, func(c column) bool { return c.name == d.KeyColumn() }) {
			return fmt.Errorf("%w: dependents of key column %q, which the model does not have", kmsencrypted.ErrConfig, d.KeyColumn())
		}
	}
	if err := field.CheckDivided(options.Dependents); err != nil {
		return err
	}
	s.dependents = options.Dependents
	return nil
}

// oldKeys keeps the data keys of records before they are rotated: one list for
// each of the dependents, with the indexes of rows. A record whose key does not
// open fails when it is rotated.
func (b *batch[R]) oldKeys(ctx context.Context, rows []*R, at []int) error {
	if !b.rekeys {
		return nil
	}
	for n, d := range b.store.dependents {
		if b.old == nil {
			b.old = make([][]kmsencrypted.DataKey, len(b.store.dependents))
		}
		if b.old[n] == nil {
			b.old[n] = make([]kmsencrypted.DataKey, len(b.rows))
		}
		keys, err := b.store.model.DataKeys(ctx, d.KeyColumn(), rows...)
		if err != nil && (kmsencrypted.Retryable(err) || kmsencrypted.ConcernsAll(err) && !b.perRecord || ctx.Err() != nil) {
			return err
		}
		for i, key := range keys {
			b.old[n][at[i]].Wipe() // of an earlier attempt
			b.old[n][at[i]] = key
		}
	}
	return nil
}

// moveDependents moves the dependents of the records that were written.
func (b *batch[R]) moveDependents(ctx context.Context, tx *sqlx.Tx, s *swap) error {
	for n, d := range b.store.dependents {
		var records []field.Rotated
		var indexes []int
		for i, written := range s.written {
			if !written || !s.moves(i, d.KeyColumn()) {
				continue
			}
			row := &b.rows[s.indexes[i]]
			record := field.Rotated{ID: b.store.model.ID(row)}
			if b.rekeys {
				keys, err := b.store.model.DataKeys(ctx, d.KeyColumn(), row)
				if err != nil {
					return err
				}
				defer keys[0].Wipe()
				record.Old, record.New = b.old[n][s.indexes[i]], keys[0]
			}
			records, indexes = append(records, record), append(indexes, i)
		}
		if len(records) == 0 {
			continue
		}
		err := d.Rotated(ctx, tx.Tx, records)
		if failures, ok := errors.AsType[field.Failures](err); ok {
			for i := range failures {
				failures[i].Index = indexes[failures[i].Index] // now of the updates
			}
			return leftOut{failures}
		}
		if err != nil {
			return fmt.Errorf("sqlstore: attached files of %s: %w", b.store.Table(), err)
		}
	}
	return nil
}
