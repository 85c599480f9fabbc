package field

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted"
)

func (m *Model[R]) dataKeys(ctx context.Context, column string, rows []*R) ([]kmsencrypted.DataKey, error) {
	const op = "unwrap"
	if err := m.usable(rows); err != nil {
		return nil, err
	}
	w := newWork(m, rows)
	defer w.release()
	groups, err := w.under(column, m.Table())
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		switch {
		case g.key.h.state == unset:
			g.fail(op, column, kmsencrypted.ErrNotLoaded)
		case g.key.h.ciphertext():
			g.need = needOwnKey
		}
	}
	unwrapKeys(ctx, m.box, op, w.pick(needOwnKey), nil)
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

func (m *Model[R]) addKey(ctx context.Context, column string, row *R) error {
	const op = "wrap"
	if err := m.usable([]*R{row}); err != nil {
		return err
	}
	w := newWork(m, []*R{row})
	defer w.release()
	groups, err := w.under(column, m.Table())
	if err != nil {
		return err
	}
	g := groups[0]
	if g.key.h.ciphertext() {
		return nil
	}
	for _, s := range g.slots {
		if s.head().readCiphertext() {
			return g.failed(op, s.spec.column, kmsencrypted.ErrNoDataKey)
		}
	}
	g.isNew, g.need, g.dataKey = true, needNewKey, kmsencrypted.NewDataKey()
	wrapKeys(ctx, m.box, op, w.pick(needNewKey))
	g.sealRecord()
	if err := w.outcome(); err != nil {
		return err
	}
	g.key.store(g.column)
	g.key.dataKey, g.key.checked = g.dataKey, true
	return nil
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
