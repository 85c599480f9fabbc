package field

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted"
)

// KeyColumns are the columns of data keys, in the order of the struct.
func (m *Model[R]) KeyColumns() (columns []string) {
	for _, k := range m.schema.keys {
		if !k.isMaster {
			columns = append(columns, k.column)
		}
	}
	return columns
}

// DataKeys returns the data keys in a key column of records that were read, for
// what else lies under them: see [Config.Files]. Each has its bytes and is the
// caller's to wipe; the zero value stands for a record without a data key. Keys
// that are not open in the records are unwrapped side by side, and stay open.
//
// The error is that of the record, or [Failures] where there are many; the keys of
// the others are returned all the same. A column that is no key of the model is
// [kmsencrypted.ErrConfig], one that was not read [kmsencrypted.ErrNotLoaded].
func (m *Model[R]) DataKeys(ctx context.Context, column string, rows ...*R) ([]kmsencrypted.DataKey, error) {
	const op = "unwrap"
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
		keys[i], err = g.dataKey.Fresh(ctx) // also of one from the cache
		g.fail(op, column, err)
	}
	return keys, w.outcome()
}

// AddKey gives a record a data key at the current version where it has none, by
// one call, though there is nothing to be sealed yet. [Model.Write] then has the
// key column. Where the record was read and has ciphertexts, but no data key, it
// is [kmsencrypted.ErrNoDataKey].
func (m *Model[R]) AddKey(ctx context.Context, column string, row *R) error {
	const op = "wrap"
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

// under lists the groups of all records under one key column.
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

// Key is the record's key in a key column; nil if the model has no such column.
func (m *Model[R]) Key(column string, row *R) *Key {
	for _, k := range m.schema.keys {
		if k.column == column && !k.isMaster {
			return m.record(row).key(k)
		}
	}
	return nil
}

// Binding is what the data key in a key column of a record is bound to. The zero
// value stands for a column that is no key of the model.
func (m *Model[R]) Binding(column string, row *R) kmsencrypted.Binding {
	for _, k := range m.schema.keys {
		if k.column == column && !k.isMaster {
			return m.record(row).binding(k)
		}
	}
	return kmsencrypted.Binding{}
}

// HasFiles reports [Config.Files].
func (m *Model[R]) HasFiles() bool { return m.schema.config.Files }

// Name is the model's name in encryption contexts.
func (m *Model[R]) Name() string { return m.schema.name }

// BoundTable is the table's name in what ciphertexts are bound to.
func (m *Model[R]) BoundTable() string { return m.schema.table }
