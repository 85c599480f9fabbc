package field

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// Write describes the encrypted columns to write of a record that was sealed,
// rewrapped or rekeyed. Adapters for SQL libraries make an INSERT or an UPDATE from
// it.
type Write struct {
	// Set lists the columns that differ from what was read, and the plain columns
	// that fields tagged migrating= replace.
	Set []Assignment
	// Where lists the columns that must be unchanged since they were read, for an
	// UPDATE: the key column of every key with a column in Set; after a rekey every
	// column under the key; for an index the fields that it was computed from and that
	// are not in Set; for a field that took the value of the one it replaces both of
	// their columns. In the comparison NULL must equal NULL. If no row matches,
	// another program changed the row: see [Adapter.KeyChanged].
	Where []Assignment
	// Omit lists plain columns that an UPDATE must not set, because another column
	// replaces them and the program changed neither: the record may hold an old value.
	Omit []string
	// Key is what happens to the data key of the row. Unless it is KeyKept, everything
	// else sealed under the old one is lost. So lock the row first, and then, in the
	// same transaction, compare the columns that the table has now: see
	// [Adapter.UnknownColumns]. After KeyRekeyed there must be none. After KeyReplaced
	// they must be NULL, as a condition of the UPDATE; otherwise return
	// [kmsencrypted.ErrNeedsDecrypt].
	Key KeyChange
}

// KeyChange is what a [Write] does to the data key of a row.
type KeyChange uint8

const (
	KeyKept     KeyChange = iota // or the row gets its first one
	KeyRekeyed                   // everything was opened and is sealed again
	KeyReplaced                  // nothing was opened, and every field is set
)

// Assignment is a column and a value for it.
type Assignment struct {
	Column string
	Value  driver.Value // string, []byte or nil; any value for a plain column
	// Or lists, in a condition, further values that the column may hold: those that
	// the record sent to it, see [Adapter.Sent]. An UPDATE that does not allow them is
	// safe too; it only has unnecessary conflicts.
	Or []driver.Value
	// Exact is set in a condition on a plain column whose text an encryption context is
	// made of: the texts "a", "A" and "a " must count as different, which they do not
	// under every collation.
	Exact bool
}

func (c *core) write(row any, plain []string) (Write, error) {
	if err := c.usable([]any{row}); err != nil {
		return Write{}, err
	}
	var out Write
	w := c.newWork([]any{row})
	defer w.release()
	for i := range w.groups {
		if err := w.groups[i].write(&out, plain); err != nil {
			return Write{}, err
		}
	}
	for _, x := range c.schema.indexes {
		if err := w.records[0].writeIndex(&out, x); err != nil {
			return Write{}, err
		}
	}
	return out, nil
}

// writeIndex adds an index that changed, and one whose source is written: it may
// have got another value since it was read, which would then be that of no source.
func (r *recordWork) writeIndex(w *Write, x *indexSpec) error {
	h := &r.indexField(x).h
	for _, s := range x.sources {
		if o, ok := r.at(s.index).Addr().Interface().(holder); ok && o.head().dirty() && o.head().changed() {
			return r.failed("write", s.column, kmsencrypted.ErrUnsealed)
		}
	}
	if h.changed() || h.state != unset && w.Key != KeyRekeyed && x.isOf(w.Set) {
		w.Set = append(w.Set, Assignment{Column: x.column, Value: h.stored.value()})
		if h.sent != nil {
			w.Where = append(w.Where, h.unchanged(x.column))
		}
		w.Where = append(w.Where, r.conditions(x)...)
	}
	return nil
}

// isOf reports whether a source of the index is written.
func (x *indexSpec) isOf(set []Assignment) bool {
	return slices.ContainsFunc(x.sources, func(s source) bool {
		return slices.ContainsFunc(set, func(a Assignment) bool { return a.Column == s.column })
	})
}

func (g *group) write(w *Write, named []string) error {
	before, sends := len(w.Set), g.schema.sends(named)
	exact := g.key.rekeyed
	put := func(column string, h *head) {
		// Under a key that replaces another, also compare NULL: another program may have
		// set a value.
		if h.changed() || g.key.replaces {
			w.Set = append(w.Set, Assignment{Column: column, Value: h.stored.value()})
		}
		// After a rekey, also compare NULL: a value set there meanwhile has the old key.
		// A value that nobody set must not replace one that another program wrote.
		if exact || h.again || h.sent != nil {
			w.Where = append(w.Where, h.unchanged(column))
		}
	}
	for _, s := range g.slots {
		if s.head().state == plain || s.changedInPlace() || g.isLeftOver(s.head()) {
			return g.failed("write", s.spec.column, kmsencrypted.ErrUnsealed)
		}
		put(s.spec.column, s.head())
		if err := g.writeOld(w, s.spec, s.head(), exact || s.head().again || s.head().sent != nil, named); err != nil {
			return err
		}
		for _, p := range s.spec.parts() {
			put(p.column, &g.partField(p).h)
		}
	}
	if g.spec.isMaster {
		return nil
	}
	key := &g.key.h
	if key.changed() && !key.before().null {
		switch {
		case g.key.replaces:
			w.Key = KeyReplaced
		case g.key.rekeyed && w.Key == KeyKept:
			w.Key = KeyRekeyed
		}
	}
	if key.changed() {
		w.Set = append(w.Set, Assignment{Column: g.spec.column, Value: key.stored.value()})
		g.writeUnread(w)
	}
	// An unconfirmed row may belong to another record by now; its key shows that.
	if key.changed() || sends {
		g.writeCompanions(w)
	}
	if sends && key.state == unset {
		return g.failed("write", g.spec.column, kmsencrypted.ErrNotLoaded)
	}
	if len(w.Set) > before || sends || g.key.inserted != nil && key.ciphertext() {
		w.Where = append(w.Where, key.unchanged(g.spec.column))
	}
	return nil
}

// changed reports whether the new content of the column differs from what it is
// known to hold. A column that the program did not set is never overwritten.
func (h *head) changed() bool {
	return h.state != unset && !h.filled && (h.nulled || h.sent != nil || !h.read || !h.stored.same(h.loaded))
}

// before returns what the column held when it was read. A row that was never read
// holds nothing yet.
func (h *head) before() stored {
	if !h.read {
		return nullColumn
	}
	return h.loaded
}

func (c *core) saved(rows []any) {
	c.inParts(rows, func(w *work) {
		w.eachOld((*group).savedOld)
		w.eachHead((*head).saved)
		for i := range w.groups {
			k := w.groups[i].key
			k.rekeyed, k.replaces, k.inserted = false, false, nil
			if k.was != nil {
				k.was = companions{w.groups[i].record.companions()}
			}
		}
	})
}

func (c *core) sent(rows []any) {
	c.inParts(rows, func(w *work) {
		for i := range w.groups {
			if k := w.groups[i].key; k.was != nil && k.h.changed() {
				k.was = append(slices.Clip(k.was), w.groups[i].record.companions())
			}
		}
		w.eachHead(func(h *head) {
			if h.state != plain && h.changed() {
				h.send()
			}
		})
		w.eachOld((*group).sentOld)
	})
}

// inParts calls do for a part of the records at a time, small enough that the memory of
// the work comes from the pool.
func (c *core) inParts(rows []any, do func(*work)) {
	const part = 64
	for rows := range slices.Chunk(c.present(rows), part) {
		w := c.newWork(rows)
		do(w)
		w.release()
	}
}

// eachOld visits every field that replaces another.
func (w *work) eachOld(do func(*group, *fieldSpec, *head)) {
	for i := range w.groups {
		g := &w.groups[i]
		for n := range g.slots {
			if s := &g.slots[n]; s.spec.oldField != nil {
				do(g, s.spec, s.head())
			}
		}
	}
}

// eachHead visits every column that the model manages.
func (w *work) eachHead(do func(*head)) {
	for i := range w.groups {
		g := &w.groups[i]
		do(&g.key.h)
		for n := range g.slots {
			s := &g.slots[n]
			do(s.head())
			for _, p := range s.spec.parts() {
				do(&g.partField(p).h)
			}
		}
	}
	for i := range w.records {
		r := &w.records[i]
		for _, x := range r.schema.indexes {
			do(&r.indexField(x).h)
		}
	}
}

func (h *head) saved() {
	if h.state != unset && h.state != plain {
		h.read, h.loaded, h.sent, h.filled, h.nulled, h.again = true, h.stored, nil, false, false, false
	}
}

func (c *core) keyChanged(ctx context.Context, row any, column string, now any) error {
	if err := c.usable([]any{row}); err != nil {
		return err
	}
	w := c.newWork([]any{row})
	defer w.release()
	for i := range w.groups {
		if g := &w.groups[i]; g.spec.column == column && !g.spec.isMaster {
			return g.failed("update", column, g.keyChanged(ctx, now))
		}
	}
	return kmsencrypted.ErrConflict
}

func (g *group) keyChanged(ctx context.Context, now any) error {
	var read head
	if err := read.scan(now); err != nil {
		return err
	}
	h := &g.key.h
	if h.is(read.stored) || !read.ciphertext() || g.key.rekeyed || g.key.replaces {
		return kmsencrypted.ErrConflict // the key column was not the cause
	}
	if !g.key.IsOpen() {
		return g.adoptClosed(read)
	}
	key, moved, err := g.unwrapAsRead(ctx, read.stored.text)
	if isForeign(err) {
		return fmt.Errorf("%w: %w", kmsencrypted.ErrConflict, err)
	}
	if err != nil {
		return err
	}
	defer key.Wipe()
	if !key.Equal(g.key.dataKey) {
		return kmsencrypted.ErrConflict
	}
	if moved {
		return g.keepWrap(read)
	}
	switch {
	case !g.seals(read.stored.text):
	case h.changed(): // the record writes its key column too, with its seal
		return g.mergeSeal(read)
	default: // and now it would have to
		return kmsencrypted.ErrConflict
	}
	*h = read
	return nil
}

// adoptClosed takes the key column of the row into a record that writes no more than
// NULL under that key: nothing depends on which one it is.
func (g *group) adoptClosed(read head) error {
	isSet := func(f *head) bool { return f.state == plain }
	if h := &g.key.h; h.changed() || !h.ciphertext() || g.seals(read.stored.text) || g.anyField(isSet) {
		return kmsencrypted.ErrConflict
	}
	g.key.h = read
	return nil
}

// unwrapAsRead opens a key column of the row. If the record moved, the row still
// has the previous context.
func (g *group) unwrapAsRead(ctx context.Context, column string) (key kmsencrypted.DataKey, moved bool, err error) {
	key, err = g.box.Unwrap(ctx, column, g.binding(g.spec))
	if err == nil || !g.key.h.changed() {
		return key, false, err
	}
	for _, values := range g.key.was {
		if then := g.as(values); err != nil {
			key, err = g.box.Unwrap(ctx, column, then.binding(g.spec))
		}
	}
	return key, true, err
}

// keepWrap keeps the wrap of a record that moved; only the condition changes.
func (g *group) keepWrap(read head) error {
	if g.seals(read.stored.text) {
		return kmsencrypted.ErrConflict // its seal may have changed
	}
	g.key.h.read, g.key.h.loaded, g.key.h.sent = true, read.stored, nil
	return nil
}

// mergeSeal adds this record's seal to wraps that another program renewed, if their
// seal is one that this record knows. Otherwise that program changed a column.
func (g *group) mergeSeal(read head) error {
	version, now, err := parseKeyColumn(read.stored.text)
	if err != nil {
		return kmsencrypted.ErrConflict
	}
	known := func(before stored) bool {
		_, native, err := parseKeyColumn(before.text)
		return err == nil && string(native.Rest) == string(now.Rest)
	}
	if !slices.ContainsFunc(g.key.h.mayHold(), known) {
		return kmsencrypted.ErrConflict
	}
	_, ours, err := parseKeyColumn(g.key.h.stored.text)
	if err != nil {
		return kmsencrypted.ErrConflict
	}
	now.Rest = ours.Rest
	text, err := formatKeyColumn(version, now)
	if err != nil {
		return err
	}
	read.stored = stored{text: text}
	g.key.h = read
	return nil
}

// managedColumns returns the columns of keys, fields, their parts and indexes.
func (s *schema) managedColumns() (columns []string) {
	for _, k := range s.keys {
		if !k.isMaster {
			columns = append(columns, k.column)
		}
		for _, f := range k.fields {
			columns = append(columns, f.column)
			for _, p := range f.parts() {
				columns = append(columns, p.column)
			}
		}
	}
	for _, x := range s.indexes {
		columns = append(columns, x.column)
	}
	return columns
}
