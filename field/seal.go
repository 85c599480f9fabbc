package field

import (
	"context"
	"errors"

	"github.com/kmsencrypted/kmsencrypted"
)

// Seal turns the plaintexts that were set in records into ciphertexts, so that
// the records can be written. Fields that were read and not set stay as they are.
//
// A record without a data key gets one: one call to the key service, and nothing
// is decrypted. Otherwise the record's own data key, version and form are used,
// which takes one call unless the record was opened before. Where every field
// under a key was set and [Config.Complete] says that there are no others, a new
// data key is made and nothing is decrypted.
//
// The error is that of the record, or [Failures] where there are many records;
// a record that fails is unchanged. The id of a record must be known unless its
// version and context leave it out.
func (m *Model[R]) Seal(ctx context.Context, rows ...*R) error {
	return m.seal(ctx, asNeeded, rows)
}

// SealNew seals records that are to be inserted: always under new data keys,
// whatever was in them, so that a copy of another record becomes a record of its
// own. Fields that are neither set nor opened become NULL, a ciphertext that was
// not opened is [kmsencrypted.ErrNotOpened].
func (m *Model[R]) SealNew(ctx context.Context, rows ...*R) error {
	return m.seal(ctx, asNew, rows)
}

// sealMode says what becomes of the data key and the fields that a record has.
type sealMode uint8

const (
	asNeeded  sealMode = iota
	asNew              // a new record: NULL where nothing is known
	asRekeyed          // the same record under a new data key: every field must be known
)

func (m *Model[R]) seal(ctx context.Context, mode sealMode, rows []*R) error {
	const op = "seal"
	all := groups(m, rows)
	for i := range all {
		all[i].plan(mode)
	}
	unwrapKeys(ctx, m.box, op, pick(all, needOwnKey))
	wrapped := pick(all, needNewKey)
	for _, g := range wrapped {
		g.dataKey = kmsencrypted.NewDataKey()
	}
	wrapKeys(ctx, m.box, op, wrapped)
	buf := newScratch()
	defer buf.release()
	for i := range all {
		g := &all[i]
		g.explainDenied()
		if g.need != needNothing && g.err == nil {
			g.sealFields(buf)
			g.sealRecord()
		}
		g.commit()
	}
	return outcome(all, len(rows))
}

// plan decides what a group needs, from what was read and set.
func (g *group) plan(mode sealMode) {
	read := g.key.h.state != unset
	var toSeal, dirty, ciphertexts int
	for i, f := range g.spec.fields {
		h := g.holders[i].head()
		read = read || h.read
		switch {
		case h.state == plain, mode != asNeeded && h.state == opened:
			toSeal++
		case mode != asNeeded && h.state == closed:
			g.fail("seal", f.column, kmsencrypted.ErrNotOpened)
		case mode == asRekeyed && h.state == unset:
			g.fail("seal", f.column, kmsencrypted.ErrNotLoaded)
		}
		if h.dirty() {
			dirty++
		}
		if h.readCiphertext() {
			ciphertexts++
		}
	}
	g.isNew = mode == asNew || mode == asNeeded && !read
	switch key := g.key.h.state; {
	case g.isNew && toSeal > 0:
		g.need = needNewKey
	case g.isNew, mode == asNeeded && dirty == 0:
	case key == unset:
		g.fail("seal", g.spec.column, kmsencrypted.ErrNotLoaded)
	case key == null && ciphertexts > 0:
		g.fail("seal", g.spec.column, kmsencrypted.ErrNoDataKey)
	case toSeal == 0 && (key == null || mode == asNeeded && !g.hasRecordSeal()):
	case key == null, mode == asRekeyed, dirty == len(g.spec.fields) && g.schema.config.Complete:
		g.need = needNewKey
	default:
		g.need = needOwnKey
	}
}

// hasRecordSeal reports whether the version of the key column seals the record.
func (g *group) hasRecordSeal() bool {
	if !g.key.h.ciphertext() {
		return false
	}
	recipe, err := g.box.Version(kmsencrypted.ColumnVersion(g.key.h.stored.text))
	return err == nil && recipe.RecordSeal
}

// explainDenied says what a server that may not decrypt can do instead.
func (g *group) explainDenied() {
	if g.err != nil && errors.Is(g.err, kmsencrypted.ErrDenied) {
		g.err = &kmsencrypted.Error{Op: "seal", Record: g.String(), Column: g.spec.column, Err: kmsencrypted.ErrNeedsDecrypt, Cause: g.err}
	}
}

// sealFields seals every field that has a plaintext to be written: those that
// were set, and under a new data key the opened ones too.
func (g *group) sealFields(buf *scratch) {
	g.changes = make([]change, 0, len(g.spec.fields))
	for i, f := range g.spec.fields {
		o := g.holders[i]
		if h := o.head(); h.state == plain || h.state == opened && g.need == needNewKey {
			sealed, err := g.sealField(f, o, buf)
			if err != nil {
				g.fail("seal", f.column, err)
				return
			}
			g.changes = append(g.changes, sealed)
		}
	}
}

func (g *group) sealField(f *fieldSpec, o holder, buf *scratch) (change, error) {
	plaintext, isNull, err := g.cipher.codec(f).encode(buf.plain[:0], o.plaintext())
	if err != nil {
		return change{}, err
	}
	buf.plain = plaintext
	if isNull {
		return change{o, null, stored{null: true}}, nil
	}
	if g.isOwnCiphertext(plaintext) {
		return change{}, kmsencrypted.ErrAlreadyEncrypted
	}
	sealed, err := g.cipher.seal(f, plaintext, buf)
	return change{o, opened, sealed}, err
}

// isOwnCiphertext notices a ciphertext of this very record that is about to be
// encrypted as if it were a plaintext: one that was read with it, or one that
// carries the key tag of such a one.
func (g *group) isOwnCiphertext(plaintext []byte) bool {
	if len(plaintext) < nativeOverhead {
		return false
	}
	buf := newScratch()
	defer buf.release()
	tag, native := nativeTag(string(plaintext), buf)
	if n, ok := g.cipher.(*nativeCipher); ok && native && n.tag == tag {
		return true
	}
	for _, o := range g.holders {
		h := o.head()
		if !h.readCiphertext() {
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
