package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// EraseBranches sets the blind indexes of the records of some branches to NULL, and
// deletes what the journal keeps of them. A wrapped key that is not under the branch of its record
// becomes NULL too if DropOutside is set; otherwise it stays, and a record without other keys stays as it is.
// It reads the whole table, without calls to a key service.
//
// A record belongs to a branch if any listed version of the Box puts it there. A record that
// changes meanwhile is read again.
func (s *Store[R]) EraseBranches(ctx context.Context, e rotation.Erasure) (done rotation.Erased, err error) {
	if err := s.usable(); err != nil {
		return done, err
	}
	if e.Erased == nil || e.Store == "" {
		return done, fmt.Errorf("sqlstore: %w: an Erasure needs Store and Erased", kmsencrypted.ErrConfig)
	}
	x := erasing[R]{store: s, of: e, view: s.erasedView()}
	x.done.Table = s.ledgerName
	if x.hasJournal, err = s.hasTable(ctx, "kms_rotation_journal"); err != nil {
		return done, fmt.Errorf("sqlstore: erase branches of %s: %w", s.Table(), markAway(err))
	}
	if err := x.pages(ctx); err != nil {
		return x.done, fmt.Errorf("sqlstore: erase branches of %s: %w", s.Table(), markAway(err))
	}
	if err := x.journal(ctx); err != nil {
		return x.done, ledgerError("erase branches", err)
	}
	return x.done, nil
}

// erasing is a call of EraseBranches.
type erasing[R any] struct {
	store      *Store[R]
	of         rotation.Erasure
	view       view
	hasJournal bool
	done       rotation.Erased
}

// erasedView is what is read of a record: its keys, indexes and context.
func (s *Store[R]) erasedView() view {
	ofContext := func(c column) bool { return slices.Contains(s.model.ContextColumns(), c.name) }
	isIndex := func(c column) bool { return slices.Contains(s.indexColumns(), c.name) }
	is := func(list []column) func(c column) bool {
		return func(c column) bool {
			return slices.ContainsFunc(list, func(other column) bool { return other.name == c.name })
		}
	}
	isKey, isManaged := is(s.keys), is(s.managed)
	return view{
		slices.DeleteFunc(slices.Clone(s.read), func(c column) bool { return isManaged(c) && !isKey(c) && !ofContext(c) && !isIndex(c) }),
		slices.DeleteFunc(slices.Clone(s.witnesses), func(c column) bool { return !ofContext(c) }),
	}
}

func (s *Store[R]) indexColumns() (names []string) {
	for _, x := range s.model.IndexColumns() {
		names = append(names, x.Column)
	}
	return names
}

// pages erases in all records, in the order of their primary keys.
func (x *erasing[R]) pages(ctx context.Context) error {
	const most, tries = 1000, 10
	for after, try := "", 0; ; {
		last, more, err := x.page(ctx, after, most)
		switch {
		case errors.Is(err, kmsencrypted.ErrConflict) && try < tries: // the same page again
			try++
		case err != nil:
			return err
		case !more:
			return nil
		default:
			after, try = last, 0
		}
	}
}

// page erases in the records that follow a primary key.
func (x *erasing[R]) page(ctx context.Context, after string, most int) (last string, more bool, err error) {
	s := x.store
	q := s.dialect.Statement()
	s.selectFrom(q, x.view)
	if err := s.where(q, rotation.Selection{Range: rotation.Range{After: after}, Kind: rotation.Rewrap, All: true}); err != nil {
		return "", false, err
	}
	q.Add(" ORDER BY ")
	q.Names(names(s.ids))
	limit := s.width.rows(most)
	q.Add(fmt.Sprintf(" LIMIT %d", limit))
	compared := slices.Clone(s.keys)
	for _, name := range s.indexColumns() {
		compared = s.with(compared, name)
	}
	b := &batch[R]{store: s, witnesses: x.view.witnesses, compared: s.withContext(compared)}
	whole := false
	err = s.inSession(ctx, func(conn *sqlx.Conn) (err error) {
		b.rows, b.records, whole, err = s.load(ctx, conn, q, x.view, limit)
		return err
	})
	if err != nil {
		return "", false, err
	}
	if err := x.batch(ctx, b); err != nil {
		return "", false, err
	}
	return b.Last(), !whole || len(b.rows) == limit, nil
}

// batch erases in the records of a page that belong to the branches.
func (x *erasing[R]) batch(ctx context.Context, b *batch[R]) error {
	s := x.store
	w := &swap{same: b.compared, set: slices.Concat(s.indexColumns(), names(s.keys)), which: true}
	var found rotation.Erased
	var records []string
	for i := range b.rows {
		outside, inside, ours, err := x.examine(&b.rows[i])
		if err != nil {
			return err
		}
		if !ours {
			continue
		}
		found.Records++
		if !x.of.DropOutside {
			found.Left += int64(len(outside))
			if len(outside) > 0 && !inside {
				continue
			}
			outside = nil
		}
		if err := b.remember(i); err != nil {
			return err
		}
		records = append(records, encodeKey(b.records[i].id))
		set, values, err := x.erased(b, i, outside)
		if err != nil {
			return err
		}
		found.Indexes += values
		found.Outside += int64(len(outside))
		if values > 0 || len(outside) > 0 {
			w.indexes = append(w.indexes, i)
			w.updates = append(w.updates, update{id: b.records[i].id, set: set, same: b.records[i].before})
		}
	}
	if x.of.DryRun {
		x.add(found)
		return x.kept(ctx, s.db, records)
	}
	if len(records) == 0 {
		x.add(found)
		return nil
	}
	before := x.done
	err := patiently(func() error {
		x.done = before
		return s.transaction(ctx, func(tx *sqlx.Tx) error {
			w.written = make([]bool, len(w.updates))
			if len(w.updates) > 0 {
				if err := s.writes(ctx, tx, w); err != nil {
					return err
				}
				if slices.Contains(w.written, false) {
					return fmt.Errorf("%w: a record changed while its branch was erased", kmsencrypted.ErrConflict)
				}
			}
			return x.kept(ctx, tx, records)
		})
	})
	if err != nil {
		x.done = before
		return err
	}
	x.add(found)
	return nil
}

func (x *erasing[R]) add(found rotation.Erased) {
	x.done.Records += found.Records
	x.done.Indexes += found.Indexes
	x.done.Outside += found.Outside
	x.done.Left += found.Left
}

// examine reports whether a record belongs to the branches, whether it has a key under its branch, and which
// of its keys are not.
func (x *erasing[R]) examine(row *R) (outside []string, inside, ours bool, err error) {
	for _, c := range x.store.keys {
		key := c.of(row).Interface().(field.Key)
		stored, err := key.Value()
		if err != nil {
			return nil, false, false, err
		}
		binding := x.store.model.Binding(c.name, row)
		column, _ := text(stored).(string)
		at := kmsencrypted.ColumnVersion(column)
		under, some := false, false
		for _, version := range x.store.model.Box().Versions() {
			is, err := x.keeps(version, binding)
			if err != nil {
				return nil, false, false, err
			}
			some = some || is
			under = under || is && version == at
		}
		ours, inside = ours || some, inside || under && !key.IsNull()
		if some && !under && !key.IsNull() {
			outside = append(outside, c.name)
		}
	}
	return outside, inside, ours, nil
}

// keeps reports whether a version wraps a key under one of the branches.
func (x *erasing[R]) keeps(version int, binding kmsencrypted.Binding) (bool, error) {
	keeper, ec, err := x.store.keeper(version, binding)
	if err != nil || keeper == nil {
		return false, err
	}
	store, branch := keeper.Branch(ec)
	return store == x.of.Store && branch != "" && x.of.Erased(branch), nil
}

// keeper returns the provider with a key for each branch that a version chooses for a
// key, or nil.
func (s *Store[R]) keeper(version int, binding kmsencrypted.Binding) (rotation.BranchKeeper, kmsencrypted.BoundContext, error) {
	provider, _, err := s.providerAt(version, binding)
	if errors.Is(err, kmsencrypted.ErrVersionRetired) {
		return nil, kmsencrypted.BoundContext{}, nil
	}
	keeper, ok := kmsencrypted.Ability[rotation.BranchKeeper](provider)
	if err != nil || !ok {
		return nil, kmsencrypted.BoundContext{}, err
	}
	ec, err := contextAt(version, binding.Context)
	return keeper, ec, err
}

// erased returns the columns of a record as they are after the erasure, and how many
// indexes have a value before.
func (x *erasing[R]) erased(b *batch[R], i int, outside []string) (set []driver.Value, values int64, err error) {
	s := x.store
	for _, name := range s.indexColumns() {
		v, err := s.managed[slices.IndexFunc(s.managed, func(c column) bool { return c.name == name })].value(&b.rows[i])
		if err != nil {
			return nil, 0, err
		}
		if v != nil {
			values++
		}
		set = append(set, nil)
	}
	for _, c := range s.keys {
		v, err := c.value(&b.rows[i])
		if err != nil {
			return nil, 0, err
		}
		if slices.Contains(outside, c.name) {
			v = nil
		}
		set = append(set, v)
	}
	return set, values, nil
}
