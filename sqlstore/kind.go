package sqlstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// kind describes a kind of rotation for a table: which rows it selects, what it
// does to them in memory, and which columns must be unchanged when they are
// written.
type kind[R any] struct {
	// selects adds to a query the condition of the rows.
	selects  func(s *Store[R], q *sqldialect.Statement, target int)
	rotate   func(b *batch[R], ctx context.Context, rows ...*R) error
	compared func(s *Store[R]) []column
	// keys counts the data keys of a row to handle; nil means all.
	keys func(m field.Adapter[R], row *R) int
}

// keyColumns are the keys, and what they seal: a program whose version seals no records
// writes a column and leaves the key as it is.
func (s *Store[R]) keyColumns() []column {
	if s.sealsRecords() {
		return s.managed
	}
	return s.keys
}

func kindOf[R any](k rotation.Kind) (kind[R], error) {
	switch k {
	case rotation.Rewrap:
		return kind[R]{(*Store[R]).selectOld, (*batch[R]).rewrap, (*Store[R]).keyColumns, nil}, nil
	case rotation.Rekey:
		// Every column of the model, even if NULL: another program may set a value there,
		// sealed under the data key that is about to be replaced.
		return kind[R]{(*Store[R]).selectRekeyed, (*batch[R]).rekey, func(s *Store[R]) []column { return s.managed }, nil}, nil
	case rotation.Migrate:
		return kind[R]{(*Store[R]).selectReplaced, (*batch[R]).migrate, (*Store[R]).migrated, nil}, nil
	case rotation.Reindex:
		return kind[R]{(*Store[R]).selectIndexed, (*batch[R]).reindex, (*Store[R]).indexed, nil}, nil
	case rotation.Complete:
		return kind[R]{(*Store[R]).selectCurrent, (*batch[R]).complete, (*Store[R]).keyColumns, field.Adapter[R].Incomplete}, nil
	case rotation.FirstKey:
		return kind[R]{(*Store[R]).selectKeyless, (*batch[R]).addKeys, (*Store[R]).keylessColumns, missingKeys[R]}, nil
	}
	return kind[R]{}, fmt.Errorf("sqlstore: %w: unknown kind of rotation %q", kmsencrypted.ErrConfig, k)
}

// ownTarget is the version of a key column that is not that of the run; 0 if it is.
func (s *Store[R]) ownTarget(key column) int {
	if n := s.model.KeyVersion(key.name); n != s.model.Box().Current() {
		return n
	}
	return 0
}

// targetOf is the version that a run to target moves a key column to.
func (s *Store[R]) targetOf(key column, target int) int { return cmp.Or(s.ownTarget(key), target) }

// Writes reports whether the model writes keys at a version.
func (s *Store[R]) Writes(version int) bool {
	return s != nil && slices.ContainsFunc(s.keys, func(key column) bool { return s.model.KeyVersion(key.name) == version })
}

// targets reports whether a run to target writes a key in a format.
func (s *Store[R]) targets(target int, format kmsencrypted.Format) bool {
	return slices.ContainsFunc(s.keys, func(key column) bool {
		to, err := s.model.Box().Version(s.targetOf(key, target))
		return err == nil && to.Format == format
	})
}

// selectOld selects rows with a key column at another version. For a NULL the
// condition is NULL, so it does not select the row.
func (s *Store[R]) selectOld(q *sqldialect.Statement, target int) {
	for i, key := range s.keys {
		if i > 0 {
			q.Add(" OR ")
		}
		q.Add(q.Dialect.Quoted(key.name), " NOT LIKE ")
		q.Arg(fmt.Sprintf("v%d:%%", s.targetOf(key, target)))
	}
}

// selectKeyless selects rows without one of their keys.
func (s *Store[R]) selectKeyless(q *sqldialect.Statement, _ int) {
	for i, key := range s.keys {
		if i > 0 {
			q.Add(" OR ")
		}
		q.Add(q.Dialect.Quoted(key.name), " IS NULL")
	}
}

// keylessColumns are the keys, and under a native version the columns too, because a
// blank one is sealed.
func (s *Store[R]) keylessColumns() []column {
	if s.targets(s.model.Box().Current(), kmsencrypted.Native) {
		return s.managed
	}
	return s.keys
}

// missingKeys counts the keys that a row does not have.
func missingKeys[R any](m field.Adapter[R], row *R) (n int) {
	for _, column := range m.KeyColumns() {
		if m.Key(column, row).IsNull() {
			n++
		}
	}
	return n
}

// selectRekeyed: also rows of Rails without a data key whose values are blank, if the
// target is native. Ruby stores the empty value as it is; no native version does.
func (s *Store[R]) selectRekeyed(q *sqldialect.Statement, target int) {
	s.selectOld(q, target)
	for _, f := range s.model.Forms() {
		key := s.model.KeyColumnOf(f.Column)
		to, err := s.model.Box().Version(cmp.Or(s.ownTarget(column{name: key}), target))
		if f.Blank && err == nil && to.Format == kmsencrypted.Native {
			q.Add(" OR (", q.Dialect.Quoted(key), " IS NULL AND ", q.Dialect.Quoted(f.Column), " = '')")
		}
	}
}

// selectCurrent selects rows with a key column at this version.
func (s *Store[R]) selectCurrent(q *sqldialect.Statement, target int) {
	for i, key := range s.keys {
		if i > 0 {
			q.Add(" OR ")
		}
		q.Add(q.Dialect.Quoted(key.name), " LIKE ")
		q.Arg(fmt.Sprintf("v%d:%%", s.targetOf(key, target)))
	}
}

// selectReplaced: also anything in a column or in the one that it replaces, because
// only opening a record tells whether both hold the same.
func (s *Store[R]) selectReplaced(q *sqldialect.Statement, target int) {
	s.selectRekeyed(q, target)
	for _, r := range s.model.Replacements() {
		q.Add(" OR ", q.Dialect.Quoted(r.Column), " IS NOT NULL OR ", q.Dialect.Quoted(r.Old), " IS NOT NULL")
	}
}

// selectIndexed selects rows with a value in an index or in a column from which one
// is computed.
func (s *Store[R]) selectIndexed(q *sqldialect.Statement, _ int) {
	q.Add("1 = 0")
	for _, x := range s.storedIndexes() {
		for _, name := range append(slices.Clone(x.Sources), x.Column) {
			q.Add(" OR ", q.Dialect.Quoted(name), " IS NOT NULL")
		}
	}
}

// storedIndexes are the indexes that can be computed again from the table.
func (s *Store[R]) storedIndexes() []field.IndexColumn {
	return slices.DeleteFunc(s.model.IndexColumns(), func(x field.IndexColumn) bool { return len(x.Sources) == 0 })
}

// migrated returns the columns of the model and those that they replace.
func (s *Store[R]) migrated() []column {
	columns := slices.Clone(s.managed)
	for _, r := range s.model.Replacements() {
		columns = s.with(columns, r.Old)
	}
	return columns
}

// indexed returns the keys, the indexes and the columns that these are computed
// from.
func (s *Store[R]) indexed() []column {
	columns := slices.Clone(s.keys)
	for _, x := range s.storedIndexes() {
		columns = s.with(columns, x.Column)
		for _, name := range x.Sources {
			columns = s.with(columns, name)
		}
	}
	return columns
}

// withContext adds the columns that the encryption context is made of: a record that
// moved meanwhile is a conflict.
func (s *Store[R]) withContext(columns []column) []column {
	for _, name := range s.model.ContextColumns() {
		columns = s.with(slices.Clip(columns), name)
	}
	return columns
}

// with adds a column: one of the model, or a plain one that the model only reads.
func (s *Store[R]) with(columns []column, name string) []column {
	if slices.ContainsFunc(columns, func(c column) bool { return c.name == name }) {
		return columns
	}
	all := slices.Concat(s.managed, s.witnesses)
	return append(columns, all[slices.IndexFunc(all, func(c column) bool { return c.name == name })])
}

func (b *batch[R]) rewrap(ctx context.Context, rows ...*R) error {
	return b.store.model.Rewrap(ctx, rows...)
}

func (b *batch[R]) addKeys(ctx context.Context, rows ...*R) error {
	return b.store.model.AddKeys(ctx, rows...)
}

func (b *batch[R]) complete(ctx context.Context, rows ...*R) error {
	return b.store.model.Complete(ctx, rows...)
}

func (b *batch[R]) rekey(ctx context.Context, rows ...*R) error {
	return b.store.model.RekeyWithFiles(ctx, rows...)
}

// migrate opens records, which gives fields the values of those that they replace,
// and seals fields that differ: under the record's own data key if that is at the
// target, otherwise under a new one.
func (b *batch[R]) migrate(ctx context.Context, rows ...*R) error {
	return inStages(ctx, rows,
		stage[R]{do: b.open},
		stage[R]{picks: b.atTarget, do: b.store.model.Seal},
		stage[R]{picks: func(row *R) bool { return !b.atTarget(row) }, do: b.store.model.RekeyWithFiles},
	)
}

// atTarget reports whether every data key of a row is at the target, or is missing
// and so will be.
func (b *batch[R]) atTarget(row *R) bool {
	return !slices.ContainsFunc(b.store.keys, func(c column) bool {
		key := c.of(row).Interface().(field.Key)
		version, has := key.Version()
		return has && version != b.store.targetOf(c, b.target)
	})
}

// reindex opens rows and computes their indexes on all processors.
func (b *batch[R]) reindex(ctx context.Context, rows ...*R) error {
	return inStages(ctx, rows, stage[R]{do: b.store.model.OpenStored}, stage[R]{do: b.store.model.Reindex})
}

// stage is an operation on all records or some of them.
type stage[R any] struct {
	picks func(*R) bool // nil means all
	do    func(context.Context, ...*R) error
}

// inStages runs the stages one after another. Records that fail are left out of
// the rest.
func inStages[R any](ctx context.Context, rows []*R, stages ...stage[R]) error {
	errs := make(map[int]error)
	for _, s := range stages {
		var picked []*R
		var at []int
		for i, row := range rows {
			if errs[i] == nil && (s.picks == nil || s.picks(row)) {
				picked, at = append(picked, row), append(at, i)
			}
		}
		if len(picked) == 0 {
			continue
		}
		failed, err := byRecord(s.do(ctx, picked...), len(picked))
		if err != nil {
			return err
		}
		for n, err := range failed {
			errs[at[n]] = err
		}
	}
	if len(errs) == 0 {
		return nil
	}
	failures := make(field.Failures, 0, len(errs))
	for i, err := range errs {
		failures = append(failures, field.Failure{Index: i, Err: err})
	}
	slices.SortFunc(failures, func(a, b field.Failure) int { return a.Index - b.Index })
	return failures
}
