package field

import (
	"context"
	"errors"

	"github.com/kmsencrypted/kmsencrypted"
)

// group is the columns of one record under one key: what is sealed, opened and
// rotated together. It goes through stages, and the groups of many records go
// through each stage together, so that their calls to the key service run side
// by side:
//
//	plan -> unwrap or make the data key -> wrap -> seal or open -> commit
//
// Nothing in the record changes before commit.
type group struct {
	record
	spec    *keySpec
	key     *Key
	holders []holder // the fields of spec, in its order
	place   int      // of the record in the caller's list

	need    need
	isNew   bool // the record is not in the database yet
	version int
	dataKey kmsencrypted.DataKey
	cipher  recordCipher
	column  string // new text of the key column; empty if it stays
	changes []change
	err     error
}

// need is what has to happen to the data key of a group.
type need uint8

const (
	needNothing need = iota
	needOwnKey       // the key that the record has
	needNewKey       // a new key at the current version
)

// change is what the column of a field is to become. Its value stays.
type change struct {
	field  holder
	state  state
	stored stored
}

// groups lists the groups of many records.
func groups[R any](m *Model[R], rows []*R) []group {
	all := make([]group, 0, len(rows)*len(m.schema.keys))
	for i, row := range rows {
		r := m.record(row)
		for _, k := range m.schema.keys {
			g := group{record: r, spec: k, key: r.key(k), place: i, holders: make([]holder, len(k.fields))}
			for j, f := range k.fields {
				g.holders[j] = r.field(f)
			}
			all = append(all, g)
		}
	}
	return all
}

// fail keeps the first error of a group, located in the record.
func (g *group) fail(op, column string, err error) {
	if g.err == nil && err != nil {
		g.err = g.failed(op, column, err)
	}
}

// outcome is one error for each record: all errors of its groups.
func outcome(all []group, records int) error {
	var errs []error
	for i := range all {
		if g := &all[i]; g.err != nil {
			if errs == nil {
				errs = make([]error, records)
			}
			errs[g.place] = errors.Join(errs[g.place], g.err)
		}
	}
	return failures(errs)
}

// pick lists the groups with a need that met no error yet.
func pick(all []group, n need) []*group {
	var picked []*group
	for i := range all {
		if g := &all[i]; g.need == n && g.err == nil {
			picked = append(picked, g)
		}
	}
	return picked
}

// unwrapKeys opens the data keys that groups have, each that is in memory
// without a call.
func unwrapKeys(ctx context.Context, box *kmsencrypted.Box, op string, all []*group) {
	var waiting []*group
	var columns []kmsencrypted.WrappedKey
	for _, g := range all {
		g.version = kmsencrypted.ColumnVersion(g.key.h.stored.text)
		if g.key.IsOpen() {
			g.dataKey = g.key.dataKey
			g.prepare(op)
			continue
		}
		waiting = append(waiting, g)
		columns = append(columns, kmsencrypted.WrappedKey{Column: g.key.h.stored.text, Binding: g.binding(g.spec)})
	}
	if len(waiting) == 0 {
		return
	}
	for i, result := range box.UnwrapAll(ctx, columns) {
		g := waiting[i]
		g.dataKey = result.Key
		g.fail(op, g.spec.column, result.Err)
		g.prepare(op)
	}
}

// wrapKeys makes new data keys for groups and wraps them under the current version.
func wrapKeys(ctx context.Context, box *kmsencrypted.Box, op string, all []*group) {
	if len(all) == 0 {
		return
	}
	keys := make([]kmsencrypted.KeyToWrap, len(all))
	for i, g := range all {
		keys[i] = kmsencrypted.KeyToWrap{Key: g.dataKey, Binding: g.binding(g.spec)}
	}
	for i, result := range box.WrapAll(ctx, keys) {
		g := all[i]
		g.version, g.column = box.Current(), result.Column
		g.fail(op, g.spec.column, result.Err)
		g.prepare(op)
	}
}

// prepare makes the cipher of the group's data key and version.
func (g *group) prepare(op string) {
	if g.err != nil {
		return
	}
	recipe, err := g.box.Version(g.version)
	if err == nil {
		g.cipher, err = newCipher(g.dataKey, recipe.Format)
	}
	g.fail(op, g.spec.column, err)
}

// commit makes the changes of a group that met no error.
func (g *group) commit() {
	if g.err != nil {
		return
	}
	for _, c := range g.changes {
		h := c.field.head()
		h.state, h.stored = c.state, c.stored
	}
	for _, o := range g.holders {
		h := o.head()
		h.set = false
		if g.isNew {
			h.becomeNew()
		}
	}
	if g.isNew {
		g.key.h = head{state: null, stored: stored{null: true}}
	}
	if g.column != "" {
		g.key.store(g.column)
	}
	if !g.dataKey.IsZero() {
		g.key.dataKey = g.dataKey
	}
}

// becomeNew makes NULL of what a new record does not say, and forgets what was
// read of the record that it may be a copy of.
func (h *head) becomeNew() {
	if h.state == unset {
		h.state, h.stored = null, stored{null: true}
	}
	h.read, h.loaded = false, stored{}
}
