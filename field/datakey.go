package field

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted"
)

func (c *core) dataKeys(ctx context.Context, column string, rows []any) ([]kmsencrypted.DataKey, error) {
	const op = "unwrap"
	if err := c.usable(rows); err != nil {
		return nil, err
	}
	w := c.newWork(rows)
	defer w.release()
	groups, err := w.under(column, c.table())
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		switch {
		case g.key.h.state == unset:
			g.fail(op, column, kmsencrypted.ErrNotLoaded)
		case g.key.h.ciphertext():
			g.need, g.moved = needOwnKey, g.hasMoved()
		}
	}
	unwrapKeys(ctx, c.box, op, w.pick(needOwnKey))
	keys := make([]kmsencrypted.DataKey, len(rows))
	for i, g := range groups {
		if g.need != needOwnKey || g.err != nil {
			continue
		}
		g.key.dataKey = g.dataKey
		var err error
		keys[i], err = g.dataKey.Fresh(ctx) // also for a key from the cache
		g.fail(op, column, err)
	}
	return keys, w.outcome()
}

func (c *core) addKey(ctx context.Context, column string, row any) error {
	if c.usable([]any{row}) == nil && c.schema.keyOf(column) == nil {
		return &kmsencrypted.Error{Op: "unwrap", Record: c.table(), Column: column, Err: kmsencrypted.ErrConfig}
	}
	return c.addKeys(ctx, []any{row}, func(k *keySpec) bool { return k.column == column })
}

// addSharedKey gives a record a data key that its earlier copy takes over.
func (c *core) addSharedKey(ctx context.Context, column string, row, earlier any) error {
	if err := c.usable([]any{row, earlier}); err != nil {
		return err
	}
	w := c.newWork([]any{row, earlier})
	defer w.release()
	groups, err := w.under(column, c.table())
	if err != nil {
		return err
	}
	now, then := groups[0], groups[1]
	if now.mayShare(then) {
		now.share(then)
	} else if err := c.addKey(ctx, column, row); err != nil {
		return err
	}
	if then.key.h.state == null {
		then.share(now)
	}
	if then.key.h.stored.same(now.key.h.stored) {
		then.key.h.send() // the caller writes it, and may roll that back
	}
	return nil
}

// mayShare reports whether the data key that another copy of this record got since it
// was read is one for this record as it is: wrapped at the same place, and without a seal
// over what only the copy has.
func (g *group) mayShare(other *group) bool {
	h := &other.key.h
	if !h.read || !h.before().null || !h.ciphertext() || !other.key.IsOpen() || g.seals(h.stored.text) {
		return false
	}
	there, err := other.wasPlaced()
	if err != nil {
		return false
	}
	here, err := g.place(kmsencrypted.ColumnVersion(h.stored.text))
	if err != nil || (here == nil) != (there == nil) {
		return false
	}
	return here == nil || here.place == there.place
}

// share takes over the data key that another copy of this record got.
func (g *group) share(other *group) {
	g.key.store(other.key.h.stored.text)
	g.key.dataKey, g.key.placed, g.key.checked = other.key.dataKey, other.key.placed, true
}

// addKeys gives records data keys in those of the picked key columns that are NULL.
func (c *core) addKeys(ctx context.Context, rows []any, picks func(*keySpec) bool) error {
	const op = "wrap"
	if err := c.usable(rows); err != nil {
		return err
	}
	w := c.newWork(rows)
	defer w.release()
	for i := range w.groups {
		g := &w.groups[i]
		if g.spec.isMaster || !picks(g.spec) || g.key.h.ciphertext() {
			continue
		}
		for n := range g.slots {
			if s := &g.slots[n]; g.readCiphertext(s) {
				g.fail(op, s.spec.column, kmsencrypted.ErrNoDataKey)
			}
		}
		g.openBlanks()
		g.isNew, g.need, g.dataKey = true, needNewKey, kmsencrypted.NewDataKey()
	}
	added := w.pick(needNewKey)
	wrapKeys(ctx, c.box, op, added)
	for _, g := range added {
		g.sealBlanks(op)
		g.sealRecord()
	}
	err := w.outcome()
	for _, g := range added {
		if g.recordWork.err == nil {
			g.commitAdded()
		}
	}
	return err
}

// commitAdded stores a key that was added, and the blanks that were sealed under it.
func (g *group) commitAdded() {
	for i := range g.slots {
		if s := &g.slots[i]; s.changed {
			h := s.head()
			h.state, h.stored, h.kept = s.state, s.columns.value, s.kept
			g.setParts(s.spec, s.columns.parts)
		}
	}
	g.key.store(g.column)
	g.key.dataKey, g.key.placed, g.key.checked = g.dataKey, g.placed, true
}

// sealBlanks seals what Ruby stores without a key, if the new key is at a native version.
// In Ruby's form it stays as it is, with the iv that the column had before it was emptied.
func (g *group) sealBlanks(op string) {
	if g.cipher != &g.native {
		return
	}
	buf := newScratch()
	defer buf.release()
	for i := range g.slots {
		if s := &g.slots[i]; g.err == nil && s.head().state == opened {
			g.fail(op, s.spec.column, g.sealField(s, buf))
		}
	}
}

// under returns the groups of all records under one key column.
func (w *work) under(column, table string) (groups []*group, err error) {
	for i := range w.groups {
		if g := &w.groups[i]; g.spec.column == column && !g.spec.isMaster {
			groups = append(groups, g)
		}
	}
	if len(groups) < len(w.records) {
		return nil, &kmsencrypted.Error{Op: "unwrap", Record: table, Column: column, Err: kmsencrypted.ErrConfig}
	}
	return groups, nil
}

// keyOf returns the key of a column.
func (s *schema) keyOf(column string) *keySpec {
	for _, k := range s.keys {
		if k.column == column && !k.isMaster {
			return k
		}
	}
	return nil
}
