package field

import (
	"context"
	"errors"
	"sync"

	"github.com/kmsencrypted/kmsencrypted"
)

// Open decrypts every field of records that were read. It makes at most one call
// to the key service for each key, none for a key without ciphertexts or one that
// is open already. The data keys of many records are unwrapped concurrently.
// Columns that were not selected stay as they are.
//
// A field tagged migrating= has the value of the field that it replaces afterwards,
// NULL included, whatever its own column holds, and the next Seal brings that up to
// date. So both columns must have been read.
//
// A column that does not open, and a record that fails, do not keep the others from
// being opened. Errors name record, column and operation: [kmsencrypted.ErrDecrypt],
// [kmsencrypted.ErrOtherDataKey], [kmsencrypted.ErrNotCiphertext],
// [kmsencrypted.ErrMalformed], [kmsencrypted.ErrNoDataKey],
// [kmsencrypted.ErrRecordSeal], and those of [kmsencrypted.Box.Unwrap]. The error is
// [Failures] if there is more than one record.
func (m *Model[R]) Open(ctx context.Context, rows ...*R) error {
	return m.inner().open(ctx, untyped(rows), true)
}

func (c *core) open(ctx context.Context, rows []any, takeOld bool) error {
	if err := c.usable(rows); err != nil {
		return err
	}
	w := c.newWork(rows)
	defer w.release()
	w.open(ctx, c.box, c.cores(rows))
	if takeOld {
		for i := range w.records {
			w.records[i].err = w.records[i].takeOld()
		}
	}
	return w.outcome()
}

// Pointers returns a pointer to each record of a slice, for calls that take many:
//
//	err := customers.Open(ctx, field.Pointers(list)...)
func Pointers[R any](rows []R) []*R {
	pointers := make([]*R, len(rows))
	for i := range rows {
		pointers[i] = &rows[i]
	}
	return pointers
}

func (w *work) open(ctx context.Context, box *kmsencrypted.Box, cores int) {
	const op = "open"
	for i := range w.groups {
		w.groups[i].note()
		w.groups[i].openBlanks()
		switch g := &w.groups[i]; {
		case !g.hasClosed() && !g.mayBeEmptied() && !(g.schema.config.KeysOnly && g.key.h.ciphertext()):
		case g.spec.isMaster:
			g.need = needNoKey
		default:
			g.need = needOwnKey
			g.fail(op, g.spec.column, g.canUnwrap())
		}
	}
	unwrapKeys(ctx, box, op, w.pick(needOwnKey))
	w.each(cores, func(g *group, buf *scratch) {
		if g.need != needNothing && g.err == nil {
			g.key.dataKey = g.dataKey
			g.openFields(buf)
		}
	})
}

// hasClosed reports whether the group has a field to open.
func (g *group) hasClosed() bool {
	return g.anyField(func(h *head) bool { return h.state == closed })
}

// mayBeEmptied reports whether there is a seal to check although there is nothing to
// open, because somebody may have emptied all columns.
func (g *group) mayBeEmptied() bool { return g.hasSealToCheck() && g.isWhole() }

// canUnwrap refuses ciphertexts without their key column.
func (g *group) canUnwrap() error {
	switch g.key.h.state {
	case unset:
		return kmsencrypted.ErrNotLoaded
	case null:
		return kmsencrypted.ErrNoDataKey
	}
	return nil
}

// openFields opens each closed field separately, so that a damaged one does not hide
// the others.
func (g *group) openFields(buf *scratch) {
	if err := g.checkRecordSeal(); err != nil {
		g.fail("open", g.spec.column, err)
		return
	}
	for i := range g.slots {
		s := &g.slots[i]
		if s.head().state != closed {
			continue
		}
		if err := g.openField(s.spec, s.holder, buf); err != nil {
			g.err = errors.Join(g.err, g.failed("open", s.spec.column, err))
		}
	}
}

func (g *group) openField(f *fieldSpec, o holder, buf *scratch) error {
	associated, err := g.associated(f)
	if err != nil {
		return err
	}
	plaintext, err := g.cipher.open(f, columns{value: o.head().stored, parts: g.parts(f)}, associated, buf)
	if err != nil {
		return err
	}
	if err := o.decode(g.cipher.codec(f), plaintext); err != nil {
		return err
	}
	o.head().kept = f.keep(g.cipher.codec(f), plaintext, false)
	return nil
}

// OpenLazily prepares records that were read so that [Of.Plain] opens a field when it
// is first needed. It makes no call to the key service. The first Plain of a record
// makes one for all fields under the same key.
func (m *Model[R]) OpenLazily(rows ...*R) { m.inner().openLazily(untyped(rows)) }

func (c *core) openLazily(rows []any) {
	w := c.newWork(c.present(rows)) // not released: the fields keep it
	for i := range w.records {
		_ = w.records[i].takeOld() // Plain finds the same mistake
	}
	for i := range w.groups {
		g := &w.groups[i]
		g.note()
		shared := &lazyKey{group: g}
		for _, s := range g.slots {
			if h := s.head(); h.state == closed || h.state == null && (g.waitsForOld(s.spec) || g.mayBeEmptied()) {
				h.lazy = &lazyField{key: shared, spec: s.spec}
			}
		}
	}
}

// lazyField can open one field later.
type lazyField struct {
	key  *lazyKey
	spec *fieldSpec
}

// lazyKey is the data key that the fields of a record share. It is unwrapped for the
// first of them. A failure is not remembered, because it may be temporary.
type lazyKey struct {
	mu    sync.Mutex
	group *group
}

func (l *lazyField) open(ctx context.Context, o holder) error {
	if err := l.openOld(ctx); err != nil {
		return err
	}
	l.key.mu.Lock()
	defer l.key.mu.Unlock()
	g := l.key.group
	if g.key.h.state != unset || g.spec.isMaster {
		if err := g.openBlank(l.spec, o); err != nil {
			return g.failed("open", l.spec.column, err)
		}
	}
	if o.head().state == closed || g.mayBeEmptied() {
		if err := l.key.open(ctx); err != nil {
			return err
		}
	}
	if o.head().state == closed { // else NULL, and the seal says that it is to be
		buf := newScratch()
		defer buf.release()
		if err := g.openField(l.spec, o, buf); err != nil {
			return g.failed("open", l.spec.column, err)
		}
	}
	if !l.spec.takesOld() {
		return nil
	}
	err := g.takeOldOf(l.spec, o)
	if err == nil {
		o.head().lazy = nil
	}
	return err
}

// openOld opens the field that this one replaces.
func (l *lazyField) openOld(ctx context.Context) error {
	if !l.key.group.waitsForOld(l.spec) {
		return nil
	}
	old, _ := l.key.group.oldHolder(l.spec)
	if old.head().lazy == nil {
		return nil
	}
	return old.head().lazy.open(ctx, old)
}

// open unwraps the data key, once.
func (l *lazyKey) open(ctx context.Context) error {
	g := l.group
	if g.cipher != nil {
		return nil
	}
	g.err = g.failed("open", g.spec.column, g.canUnwrap())
	if g.err == nil {
		unwrapKeys(ctx, g.box, "open", []*group{g})
	}
	if g.err != nil {
		return g.err
	}
	if err := g.checkRecordSeal(); err != nil {
		g.cipher = nil
		return g.failed("open", g.spec.column, err)
	}
	g.key.dataKey = g.dataKey
	return nil
}
