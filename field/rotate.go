package field

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// Rewrap moves the key columns of records that were read to the current version of the
// Box: another key, key service or context. The data keys stay, so no other column
// changes. Write the key column only if it is unchanged since it was read. Records
// without a data key do not change. Rewrap returns [kmsencrypted.ErrNeedsRekey] for a
// version in another format.
//
// If the key service can, it moves the keys of all records inside, as described at
// [kmsencrypted.Box.RewrapAll]. A record's key that is in memory is wrapped again. A key
// whose version seals the record is opened, to check and renew the seal. A key that was
// moved inside stays closed, because it never left the service: opening or sealing the
// record afterwards takes a call to unwrap it.
func (m *Model[R]) Rewrap(ctx context.Context, rows ...*R) error {
	return m.inner().rewrap(ctx, "rewrap", untyped(rows), func(*group) (bool, error) { return true, nil })
}

const opComplete = "complete"

// incomplete returns the number of key columns that lack a wrap.
func (c *core) incomplete(row any) (n int) {
	if c.lacks(row) {
		return 0
	}
	w := c.newWork([]any{row})
	defer w.release()
	for i := range w.groups {
		if g := &w.groups[i]; !g.spec.isMaster && g.key.h.ciphertext() {
			if lacks, err := g.lacksWrap(); lacks || err != nil {
				n++
			}
		}
	}
	return n
}

// lacksWrap reports whether a key column at the current version lacks a wrap.
func (g *group) lacksWrap() (bool, error) { return g.lacks(g.key.h.stored.text) }

func (g *group) lacks(column string) (bool, error) {
	missing, err := g.box.Missing(column, g.binding(g.spec))
	return len(missing) > 0, err
}

// rewrap moves the key columns that picks selects.
func (c *core) rewrap(ctx context.Context, op string, rows []any, picks func(*group) (bool, error)) error {
	if err := c.usable(rows); err != nil {
		return err
	}
	w := c.newWork(rows)
	defer w.release()
	for i := range w.groups {
		switch g := &w.groups[i]; {
		case g.spec.isMaster:
		case g.key.h.state == unset:
			g.fail(op, g.spec.column, kmsencrypted.ErrNotLoaded)
		case g.key.h.ciphertext():
			picked, err := picks(g)
			g.fail(op, g.spec.column, err)
			if !picked {
				continue
			}
			g.note()
			if g.move(op, asNeeded) == asRekeyed {
				g.fail(op, g.spec.column, fmt.Errorf("%w: the record has moved to another key", kmsencrypted.ErrNeedsRekey))
			}
			g.need = g.rewrapNeed()
			g.fail(op, g.spec.column, g.keepsFormat())
			if g.hasSealToCheck() && !g.isWhole() {
				g.fail(op, g.spec.column, kmsencrypted.ErrNotLoaded)
			}
		}
	}
	unsealed := w.setToNull()
	rewrapKeys(ctx, c.box, op, w.pick(needMove))
	unwrapKeys(ctx, c.box, op, w.pick(needOwnKey))
	for _, g := range w.pick(needOwnKey) {
		key, err := g.dataKey.Fresh(ctx) // a key from the cache has no bytes to wrap
		g.dataKey = key
		g.fail(op, g.spec.column, err)
	}
	wrapped := w.pick(needOwnKey)
	wrapKeys(ctx, c.box, op, wrapped)
	for _, g := range wrapped {
		g.sealRecord()
	}
	if op == opComplete {
		w.checkComplete()
	}
	err := w.commit()
	for _, h := range unsealed {
		h.set = true
	}
	return err
}

// setToNull are the fields that were set to NULL: a rewrap does not seal them.
func (w *work) setToNull() (heads []*head) {
	for i := range w.groups {
		for n := range w.groups[i].slots {
			if h := w.groups[i].slots[n].head(); h.state == null && h.set {
				heads = append(heads, h)
			}
		}
	}
	return heads
}

// checkComplete refuses a column that still lacks a wrap. It may even have lost another
// wrap, whose service became unavailable meanwhile.
func (w *work) checkComplete() {
	for i := range w.groups {
		g := &w.groups[i]
		if g.column == "" || g.err != nil {
			continue
		}
		lacks, err := g.lacks(g.column)
		if err == nil && lacks {
			err = kmsencrypted.ErrUnavailable
		}
		g.fail(opComplete, g.spec.column, err)
	}
}

// rewrapNeed returns what a rewrap needs.
func (g *group) rewrapNeed() need {
	target, err := g.box.Version(g.target())
	if g.key.IsOpen() || g.sealsRecord() || err == nil && target.RecordSeal {
		return needOwnKey
	}
	return needMove
}

func (g *group) keepsFormat() error {
	version := kmsencrypted.ColumnVersion(g.key.h.stored.text)
	from, err := g.box.Version(version)
	if err != nil {
		return err
	}
	to, err := g.box.Version(g.target())
	if err == nil && from.Format != to.Format {
		err = kmsencrypted.ErrNeedsRekey
	}
	return err
}

// Rekey seals records that were read under new data keys at the current version, from
// any format. Every encrypted column must have been read or set; otherwise Rekey returns
// [kmsencrypted.ErrNotLoaded], because what is not sealed again is lost with the old
// data key. A column of the table that the struct does not declare is also lost: rekey
// only with a model that declares every column under its keys. Write the result only if
// the key column and every encrypted column are unchanged since they were read.
//
// A record that does not open is unchanged and does not stop the others. Rekey returns
// [kmsencrypted.ErrNeedsFiles] for a model with [Config.Files].
func (m *Model[R]) Rekey(ctx context.Context, rows ...*R) error {
	return m.inner().rekeyAlone(ctx, every, untyped(rows))
}

// RekeyKey is [Model.Rekey] of one key of a model with several, as Ruby's
// rotate_kms_key_phone! is: columns under other keys stay as they are. The name of the
// first key is "". RekeyKey opens the records first, under all keys.
func (m *Model[R]) RekeyKey(ctx context.Context, key string, rows ...*R) error {
	picks := func(k *keySpec) bool { return !k.isMaster && k.name == key }
	if c := m.inner(); c != nil && !slices.ContainsFunc(c.schema.keys, picks) {
		return fmt.Errorf("field: %w: %s has no key named %q", kmsencrypted.ErrConfig, c.table(), key)
	}
	return m.inner().rekeyAlone(ctx, picks, untyped(rows))
}

// rekeyAlone refuses a model whose records have files.
func (c *core) rekeyAlone(ctx context.Context, picks func(*keySpec) bool, rows []any) error {
	if err := c.usable(rows); err != nil {
		return err
	}
	if c.schema.config.Files {
		return &kmsencrypted.Error{Op: "rekey", Record: c.table(), Err: kmsencrypted.ErrNeedsFiles}
	}
	return c.rekey(ctx, picks, rows)
}

func (c *core) rekey(ctx context.Context, picks func(*keySpec) bool, rows []any) error {
	if err := c.usable(rows); err != nil {
		return err
	}
	if c.schema.config.KeysOnly {
		return fmt.Errorf("field: %w: a model of keys only cannot rekey %s", kmsencrypted.ErrConfig, c.table())
	}
	opened := c.open(ctx, rows, false)
	if opened == nil {
		return c.sealUnder(ctx, asRekeyed, picks, rows)
	}
	failed, ok := errors.AsType[Failures](opened)
	if !ok { // the only record
		return opened
	}
	var good []any
	var places []int
	for i, row := range rows {
		if !slices.ContainsFunc(failed, func(f Failure) bool { return f.Index == i }) {
			good, places = append(good, row), append(places, i)
		}
	}
	switch sealed := c.sealUnder(ctx, asRekeyed, picks, good).(type) {
	case nil:
	case Failures:
		for _, f := range sealed {
			failed = append(failed, Failure{Index: places[f.Index], Err: f.Err})
		}
	default:
		failed = append(failed, Failure{Index: places[0], Err: sealed})
	}
	slices.SortFunc(failed, func(a, b Failure) int { return cmp.Compare(a.Index, b.Index) })
	return failed
}
