package sqlstore

import (
	"context"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// What an erasure deletes from the journal: the replaced keys of records of the branches, under
// whatever key, and whatever else is under the keys of the branches.

// runner is a database or a transaction.
type runner interface {
	Execer
	sqlx.QueryerContext
}

// kept deletes what the journal has of some records under any key, or counts it.
func (x *erasing[R]) kept(ctx context.Context, db runner, records []string) error {
	if !x.hasJournal {
		return nil
	}
	s := x.store
	for some := range slices.Chunk(records, 100) {
		list := func(q *sqldialect.Statement, what string) {
			q.Add(what, " kms_rotation_journal WHERE table_name = ")
			q.Arg(s.ledgerName)
			for i, record := range some {
				q.Add([]string{" AND record IN (", ", "}[min(i, 1)])
				q.Arg(record)
			}
			q.Add(")")
		}
		all, moved := s.dialect.Statement(), s.dialect.Statement()
		list(all, "SELECT count(*) FROM")
		list(moved, "SELECT count(*) FROM")
		compared, before, after := s.dialect.Exact("store")
		moved.Add(" AND (branch IS NULL OR ", compared, " <> ", before)
		moved.Arg(x.of.Store)
		moved.Add(after, ")")
		for _, count := range []struct {
			q  *sqldialect.Statement
			to *int64
		}{{all, &x.done.Journal}, {moved, &x.done.Moved}} {
			var n int64
			if err := db.QueryRowxContext(ctx, count.q.String(), count.q.Args...).Scan(&n); err != nil {
				return err
			}
			*count.to += n
		}
		if x.of.DryRun {
			continue
		}
		deleted := s.dialect.Statement()
		list(deleted, "DELETE FROM")
		if _, err := db.ExecContext(ctx, deleted.String(), deleted.Args...); err != nil {
			return err
		}
	}
	return nil
}

// journal deletes what is left in the journal under the keys of the branches: of records that
// were moved out of them, or deleted.
func (x *erasing[R]) journal(ctx context.Context) error {
	if !x.hasJournal {
		return nil
	}
	s := x.store
	var list []struct {
		Branch string `db:"branch"`
		Keys   int64  `db:"keys_held"`
	}
	compared, before, after := s.dialect.Exact("store")
	branch, _, _ := s.dialect.Exact("branch")
	err := s.db.SelectContext(ctx, &list, s.dialect.SQL("SELECT min(branch) AS branch, count(*) AS keys_held FROM kms_rotation_journal WHERE table_name = ? AND branch IS NOT NULL AND "+
		compared+" = "+before+"?"+after+" GROUP BY "+branch), s.ledgerName, x.of.Store)
	if err != nil {
		return err
	}
	for _, of := range list {
		switch {
		case !x.of.Erased(of.Branch):
		case x.of.DryRun:
			x.done.Journal += of.Keys
		default:
			n, err := s.ForgetBranch(ctx, s.db, x.of.Store, of.Branch)
			if err != nil {
				return err
			}
			x.done.Journal += n
		}
	}
	return nil
}
