package field

import (
	"cmp"
	"context"

	"github.com/kmsencrypted/kmsencrypted"
)

// group is the columns of one record under one key, which are sealed, opened
// and rotated together. The groups of many records pass through each stage
// together, so that their calls to the key service run concurrently:
//
//	plan -> unwrap or make the data key -> wrap -> seal or open -> commit
type group struct {
	*recordWork
	spec  *keySpec
	key   *Key // under Lockbox's master key, an internal one
	slots []slot

	need    need
	rekeyed bool    // by Rekey
	sealed  bool    // every field to write is under the data key
	moved   bool    // the record has moved, under the same provider
	placed  *placed // of column
	// replaces means that every field is set, and this process may not decrypt.
	replaces bool
	version  int
	dataKey  kmsencrypted.DataKey
	cipher   recordCipher
	native   nativeCipher // cipher under a native version
	column   string       // new text of the key column; empty if it does not change
	err      error
}

// need is what must happen to the data key of a group.
type need uint8

const (
	needNothing need = iota
	needOwnKey       // the key that the record has
	needNewKey       // a new key at the current version
	needMove         // the key that the record has, under the current version
	needNoKey        // sealing or opening under Lockbox's master key
)

// fail keeps the first error of a group, with its place in the record.
func (g *group) fail(op, column string, err error) {
	if g.err == nil && err != nil {
		g.err = g.failed(op, column, err)
	}
}

// unwrapKeys opens the existing data keys of groups, without a call if they are
// in memory.
func unwrapKeys(ctx context.Context, box *kmsencrypted.Box, op string, all []*group) {
	waiting := all[:0]
	for _, g := range all {
		g.version = kmsencrypted.ColumnVersion(g.key.h.stored.text)
		if g.key.IsOpen() {
			g.opened(op, g.key.dataKey, nil)
			continue
		}
		waiting = append(waiting, g)
	}
	switch len(waiting) {
	case 0:
		return
	case 1:
		g := waiting[0]
		key, err := box.Unwrap(ctx, g.key.h.stored.text, g.asWrapped().binding(g.spec))
		g.opened(op, key, err)
		return
	}
	columns := make([]kmsencrypted.WrappedKey, len(waiting))
	for i, g := range waiting {
		columns[i] = kmsencrypted.WrappedKey{Column: g.key.h.stored.text, Binding: g.asWrapped().binding(g.spec)}
	}
	for i, result := range box.UnwrapEach(ctx, columns) {
		waiting[i].opened(op, result.Key, result.Err)
	}
}

// opened stores the data key of a group and makes its cipher.
func (g *group) opened(op string, key kmsencrypted.DataKey, err error) {
	g.dataKey = key
	g.fail(op, g.spec.column, err)
	if err == nil && !g.key.IsOpen() {
		g.key.placed, err = g.asWrapped().place(g.version)
		g.fail(op, g.spec.column, err)
	}
	g.prepare(op)
}

// wrapKeys wraps the data keys of groups under the current version.
func wrapKeys(ctx context.Context, box *kmsencrypted.Box, op string, all []*group) {
	if len(all) == 1 {
		g := all[0]
		column, err := box.Wrap(ctx, g.dataKey, g.binding(g.spec))
		g.wrapped(op, column, err)
		return
	}
	keys := make([]kmsencrypted.KeyToWrap, len(all))
	for i, g := range all {
		keys[i] = kmsencrypted.KeyToWrap{Key: g.dataKey, Binding: g.binding(g.spec)}
	}
	for i, result := range box.WrapAll(ctx, keys) {
		all[i].wrapped(op, result.Column, result.Err)
	}
}

// rewrapKeys moves the key columns of groups to the current version without
// opening the keys here.
func rewrapKeys(ctx context.Context, box *kmsencrypted.Box, op string, all []*group) {
	columns := make([]kmsencrypted.WrappedKey, len(all))
	for i, g := range all {
		columns[i] = kmsencrypted.WrappedKey{Column: g.key.h.stored.text, Binding: g.binding(g.spec)}
	}
	for i, result := range box.RewrapAll(ctx, columns) {
		g := all[i]
		g.version, g.column = g.target(), result.Column
		g.fail(op, g.spec.column, result.Err)
	}
}

// target is the version that the key of the group is written at.
func (g *group) target() int { return cmp.Or(g.spec.target, g.box.Current()) }

// wrapped stores the new key column of a group and makes its cipher.
func (g *group) wrapped(op, column string, err error) {
	g.version, g.column = g.target(), column
	g.fail(op, g.spec.column, err)
	if err == nil {
		g.placed, err = g.place(g.version)
		g.fail(op, g.spec.column, err)
	}
	g.prepare(op)
}

// prepare makes the cipher of the group's data key and version.
func (g *group) prepare(op string) {
	if g.err != nil {
		return
	}
	recipe, err := g.box.Version(g.version)
	switch {
	case err != nil:
	case recipe.Format == kmsencrypted.Native:
		err = g.native.init(g.dataKey)
		g.cipher = &g.native
	default:
		g.cipher = newRubyCipher(g.dataKey)
	}
	g.fail(op, g.spec.column, err)
}

// isLeftOver reports whether a field was sealed and not written, and the key column was
// read again since then: the data key of the row may be another one by now, or none.
func (g *group) isLeftOver(h *head) bool {
	return g.key.scanned && h.ciphertext() && h.changed()
}

// commit applies the changes of a group.
func (g *group) commit() {
	for i := range g.slots {
		g.commitSlot(&g.slots[i])
	}
	if g.sealed {
		g.key.scanned = false
	}
	if g.isNew {
		g.key.h, g.key.inserted = head{state: null, stored: nullColumn, filled: true}, nil
	}
	if g.isNew && !g.spec.isMaster {
		g.key.was = nil
		g.note()
	}
	if g.column != "" {
		g.key.store(g.column)
		g.key.placed = g.placed
		g.key.checked = true
		if g.need == needNewKey { // what only wraps it again leaves it a key that was not written
			g.key.rekeyed, g.key.replaces = g.rekeyed, g.replaces
		}
	}
	if !g.dataKey.IsZero() {
		g.key.dataKey = g.dataKey
	}
}

func (g *group) commitSlot(s *slot) {
	h := s.head()
	if s.changed {
		h.state, h.stored, h.kept, h.again = s.state, s.columns.value, s.kept, false
		g.setParts(s.spec, s.columns.parts)
	}
	written := h.set || g.isNew || g.rekeyed
	h.nulled = h.nulled || h.set
	h.set = false
	if g.isNew {
		h.becomeNew()
	}
	// A new record of attr_encrypted has no iv and salt with NULL. A value that
	// Ruby emptied later keeps its own, because nobody asked to change them.
	if h.state == null && written {
		g.setParts(s.spec, nil)
	}
}

// becomeNew sets to NULL what a new record does not have, and forgets what was
// read of the record that it may be a copy of.
func (h *head) becomeNew() {
	if h.state == unset {
		h.state, h.stored, h.filled = null, nullColumn, true
	}
	h.read, h.loaded, h.sent = false, stored{}, nil
}
