package field

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/nativefield"
)

// Seal turns the plaintexts that were set in records, or changed in place, into
// ciphertexts, so that the records can be written. Other fields stay as they are.
//
// A record without a data key gets one with one call to the key service; nothing is
// decrypted. Otherwise Seal uses the record's own data key, version and form, which
// takes one call unless the record was opened before. It makes a new data key if
// this process may not decrypt ([kmsencrypted.Version.EncryptOnly]), every field
// under the key was set, and [Config.Complete] is set.
//
// The error is that of the record, or [Failures] if there are many records. A record
// that fails is unchanged. The id of a record must be known unless its version and
// context omit it.
func (m *Model[R]) Seal(ctx context.Context, rows ...*R) error {
	return m.inner().seal(ctx, asNeeded, untyped(rows))
}

// SealNew seals records to be inserted, always under new data keys, so that a copy
// of another record becomes a record of its own. Fields that are neither set nor
// opened become NULL. SealNew returns [kmsencrypted.ErrNotOpened] for a ciphertext
// that was not opened.
func (m *Model[R]) SealNew(ctx context.Context, rows ...*R) error {
	return m.inner().seal(ctx, asNew, untyped(rows))
}

// sealMode determines what happens to the existing data key and fields of a record.
type sealMode uint8

const (
	asNeeded  sealMode = iota
	asNew              // a new record: unknown fields become NULL
	asRekeyed          // the same record under a new data key: every field must be known
)

func (c *core) seal(ctx context.Context, mode sealMode, rows []any) error {
	return c.sealUnder(ctx, mode, every, rows)
}

// every picks all keys.
func every(*keySpec) bool { return true }

// sealUnder seals in a mode under the keys that picks selects, and as needed under others.
func (c *core) sealUnder(ctx context.Context, mode sealMode, picks func(*keySpec) bool, rows []any) error {
	const op = "seal"
	if err := c.usable(rows); err != nil {
		return err
	}
	if c.schema.config.KeysOnly {
		return fmt.Errorf("field: %w: a model of keys only cannot seal %s", kmsencrypted.ErrConfig, c.table())
	}
	w := c.newWork(rows)
	defer w.release()
	w.noticeChanges()
	for i := range w.records {
		w.records[i].err = errors.Join(w.records[i].putOld(mode), w.records[i].putIgnoringCase())
	}
	for i := range w.groups {
		g := &w.groups[i]
		g.read = g.read || g.wasRead()
	}
	for i := range w.groups {
		g, mode := &w.groups[i], mode
		if !picks(g.spec) {
			mode = asNeeded
		}
		g.isNew = mode == asNew || mode == asNeeded && !g.read
		g.sealed = true
		g.note()
		g.plan(g.move(op, mode))
		g.refuseFirstKey(mode)
	}
	unwrapKeys(ctx, c.box, op, w.pick(needOwnKey))
	w.rewrapMoved(ctx, op)
	wrapped := w.pick(needNewKey)
	for _, g := range wrapped {
		g.dataKey = kmsencrypted.NewDataKey()
	}
	wrapKeys(ctx, c.box, op, wrapped)
	w.each(c.cores(rows), func(g *group, buf *scratch) {
		g.explainDenied()
		if g.need != needNothing && g.err == nil {
			g.sealFields(buf)
			g.sealRecord()
		}
	})
	indexes := c.sealIndexes(ctx, w)
	err := w.commit()
	for _, c := range indexes {
		if c.recordWork.err == nil {
			c.commit()
		}
	}
	return err
}

// rewrapMoved wraps the data keys of records that moved under their new contexts.
func (w *work) rewrapMoved(ctx context.Context, op string) {
	var moved []*group
	for _, g := range w.pick(needOwnKey) {
		if !g.moved {
			continue
		}
		key, err := g.dataKey.Fresh(ctx) // a key from the cache has no bytes to wrap
		g.dataKey = key
		if g.fail(op, g.spec.column, err); err == nil {
			moved = append(moved, g)
		}
	}
	if len(moved) > 0 {
		wrapKeys(ctx, moved[0].box, op, moved)
	}
}

func (c *core) indexNew(ctx context.Context, rows []any) error {
	if err := c.usable(rows); err != nil {
		return err
	}
	w := c.newWork(rows)
	defer w.release()
	for i := range w.records {
		w.records[i].isNew = true
	}
	indexes := c.sealIndexes(ctx, w)
	err := w.outcome()
	for _, c := range indexes {
		if c.recordWork.err == nil {
			c.commit()
		}
	}
	return err
}

// sealIndexes computes the indexes of all fields that were set.
func (c *core) sealIndexes(ctx context.Context, w *work) (indexes []*computing) {
	if len(c.schema.indexes) == 0 {
		return nil
	}
	for i := range w.records {
		indexes = append(indexes, w.records[i].staleIndexes()...)
	}
	computeIndexes(ctx, indexes)
	for _, c := range indexes {
		if c.err != nil {
			c.recordWork.err = errors.Join(c.recordWork.err, c.failed("index", c.spec.column, c.err))
		}
	}
	return indexes
}

// wasRead reports whether any column of the group was read from the database.
func (g *group) wasRead() bool {
	return g.key.h.state != unset || g.anyField(func(h *head) bool { return h.read })
}

// plan determines what a group needs, from what was read and set.
func (g *group) plan(mode sealMode) {
	var toSeal, dirty, ciphertexts int
	for i := range g.slots {
		s := &g.slots[i]
		h := s.head()
		switch {
		case h.state == plain, mode != asNeeded && h.state == opened:
			toSeal++
		case h.state == opened && (g.isLeftOver(h) || g.associatedChanged(s)):
			toSeal++
			dirty++
		case g.isLeftOver(h):
			g.fail("seal", s.spec.column, kmsencrypted.ErrNotOpened)
		case mode != asNeeded && h.state == closed:
			g.fail("seal", s.spec.column, kmsencrypted.ErrNotOpened)
		case mode == asRekeyed && h.state == unset:
			g.fail("seal", s.spec.column, kmsencrypted.ErrNotLoaded)
		}
		if h.dirty() {
			dirty++
		}
		if g.readCiphertext(s) {
			ciphertexts++
		}
	}
	g.rekeyed = mode == asRekeyed
	switch key := g.key.h.state; {
	case g.spec.isMaster && toSeal > 0:
		g.need = needNoKey
	case g.spec.isMaster:
	case g.isNew && toSeal > 0:
		g.need = needNewKey
	case g.isNew, mode == asNeeded && dirty == 0 && !g.moved:
	case key == unset:
		g.fail("seal", g.spec.column, kmsencrypted.ErrNotLoaded)
	case key == null && ciphertexts > 0:
		g.fail("seal", g.spec.column, kmsencrypted.ErrNoDataKey)
	case g.moved:
		g.need = needOwnKey
	case toSeal == 0 && (key == null || mode == asNeeded && !g.sealsRecord()):
	case key == null && mode == asRekeyed && g.staysBlank():
	case key == null:
		g.openBlanks() // a native version seals them
		g.need = needNewKey
	case mode == asRekeyed:
		g.need = needNewKey
	case dirty == len(g.slots) && g.mayReplaceKey():
		g.need, g.replaces = needNewKey, true
	default:
		g.need = needOwnKey
	}
}

// ErrFirstKey reports a stored record without a data key that this process must not give
// one, because a Ruby process may give it another at the same time: see
// [Config.NoFirstKeys].
var ErrFirstKey = errors.New("record has no data key, and may not get one here: run a rotation of the kind first-key (new records: SealNew)")

// refuseFirstKey refuses to give a stored record a data key where Rails may do the same.
func (g *group) refuseFirstKey(mode sealMode) {
	if mode != asNeeded || g.need != needNewKey || g.replaces || !g.schema.config.NoFirstKeys {
		return
	}
	if recipe, err := g.box.Version(g.target()); err == nil && recipe.Format == kmsencrypted.Ruby {
		g.fail("seal", g.spec.column, ErrFirstKey)
	}
}

// mayReplaceKey reports whether a record that is written completely gets a new data
// key. That happens only if this process may not open the old one; another release
// may have sealed columns under that which this one does not know.
func (g *group) mayReplaceKey() bool {
	if c := g.schema.config; !c.Complete || c.Files {
		return false
	}
	recipe, err := g.box.Version(kmsencrypted.ColumnVersion(g.key.h.stored.text))
	if err != nil {
		recipe, err = g.box.Version(g.target())
	}
	return err == nil && recipe.EncryptOnly && !g.key.IsOpen()
}

// explainDenied adds what a server that may not decrypt can do instead.
func (g *group) explainDenied() {
	if g.err != nil && errors.Is(g.err, kmsencrypted.ErrDenied) {
		g.err = &kmsencrypted.Error{Op: "seal", Record: g.String(), Column: g.spec.column, Err: kmsencrypted.ErrNeedsDecrypt, Cause: g.err}
	}
}

// sealFields seals every field with a plaintext to write: those that were set, and
// under a new data key the opened ones too.
func (g *group) sealFields(buf *scratch) {
	for i := range g.slots {
		s := &g.slots[i]
		switch h := s.head(); {
		case h.state == plain:
		case h.state == opened && (g.need == needNewKey || g.isNew || g.isLeftOver(h) || g.associatedChanged(s)):
		default:
			continue
		}
		if err := g.sealField(s, buf); err != nil {
			g.fail("seal", s.spec.column, err)
			return
		}
	}
}

func (g *group) sealField(s *slot, buf *scratch) error {
	plaintext, isNull, err := s.encode(g.cipher.codec(s.spec), buf.plain[:0])
	if err != nil {
		return err
	}
	buf.plain = plaintext
	if isNull {
		s.changed, s.state, s.columns = true, null, columns{value: nullColumn}
		s.kept = s.spec.keep(g.cipher.codec(s.spec), nil, true)
		return nil
	}
	if g.isOwnCiphertext(plaintext) && !s.spec.mayHoldPlaintext(plaintext) {
		return kmsencrypted.ErrAlreadyEncrypted
	}
	if err := g.checkEncoding(s); err != nil {
		return err
	}
	associated, err := g.associated(s.spec)
	if err != nil {
		return err
	}
	s.columns, err = g.cipher.seal(s.spec, plaintext, associated, buf)
	s.changed, s.state = err == nil, opened
	s.kept = s.spec.keep(g.cipher.codec(s.spec), plaintext, false)
	return err
}

// checkEncoding compares the encoding of an attr_encrypted column with what was read.
func (g *group) checkEncoding(s *slot) error {
	c, ok := s.spec.rubyColumn.(*attrEncryptedColumn)
	if _, isRuby := g.cipher.(*rubyCipher); !ok || !isRuby {
		return nil
	}
	if _, _, err := parseKeyColumn(g.key.h.loaded.text); err == nil {
		return nil // the record is native: no value in it is of Rails
	}
	return c.checkEncoding(columns{value: s.head().loaded, parts: g.loadedParts(s.spec)})
}

// isOwnCiphertext detects a ciphertext of this record that is about to be encrypted
// like a plaintext: one that was read with it, or one with the key tag of such a
// ciphertext.
func (g *group) isOwnCiphertext(plaintext []byte) bool {
	if len(plaintext) < nativefield.Overhead {
		return false
	}
	buf := newScratch()
	defer buf.release()
	tag, native := nativeTag(string(plaintext), buf)
	if n, ok := g.cipher.(*nativeCipher); ok && native && n.tag == tag {
		return true
	}
	for i := range g.slots {
		h := g.slots[i].head()
		if !g.readCiphertext(&g.slots[i]) {
			continue
		}
		if string(plaintext) == h.loaded.text {
			return true
		}
		if own, ok := nativeTag(h.loaded.text, buf); ok && native && own == tag {
			return true
		}
	}
	return false
}
