package field

import (
	"errors"

	"github.com/kmsencrypted/kmsencrypted"
)

// Lockbox without padding and attr_encrypted store the empty value as it is and ask for
// no data key. So Rails leaves the key column NULL if all values under it are blank, and
// an empty column is no ciphertext: it opens without a key.

// isBlank reports whether a column holds the empty value as Ruby stores it. Under a
// native version nobody writes that. A record without a data key has no version; then
// the Ruby tag of the field decides.
func (r *record) isBlank(k *keySpec, f *fieldSpec, column stored) bool {
	if column.null || column.text != "" || f.rubyColumn == nil || !f.rubyColumn.storesEmpty() {
		return false
	}
	if k.isMaster || !r.key(k).h.ciphertext() {
		return true
	}
	recipe, err := r.box.Version(kmsencrypted.ColumnVersion(r.key(k).h.stored.text))
	return err == nil && recipe.Format == kmsencrypted.Ruby
}

// readCiphertext reports whether the row held a ciphertext of the field when it was
// last known.
func (g *group) readCiphertext(s *slot) bool {
	return s.head().readValue() && !g.isBlank(g.spec, s.spec, s.head().loaded)
}

// openBlanks opens the fields of a group that need no key.
func (g *group) openBlanks() {
	if g.key.h.state == unset && !g.spec.isMaster {
		return // the version is not known
	}
	for i := range g.slots {
		s := &g.slots[i]
		if err := g.openBlank(s.spec, s.holder); err != nil {
			g.err = errors.Join(g.err, g.failed("open", s.spec.column, err))
		}
	}
}

func (g *group) openBlank(f *fieldSpec, o holder) error {
	if o.head().state != closed || !g.isBlank(g.spec, f, o.head().stored) {
		return nil
	}
	if err := o.decode(f.rubyColumn.codec(), nil); err != nil {
		return err
	}
	o.head().kept = f.keep(f.rubyColumn.codec(), nil, false)
	return nil
}

// staysBlank reports whether a record without a data key needs none under the current
// version either, because Ruby would not make one.
func (g *group) staysBlank() bool {
	recipe, err := g.box.Version(g.target())
	if err != nil || recipe.Format != kmsencrypted.Ruby {
		return false
	}
	for i := range g.slots {
		s := &g.slots[i]
		if h := s.head(); h.state != null && (h.state != opened || !g.isBlank(g.spec, s.spec, h.stored)) {
			return false
		}
	}
	return true
}

// writeUnread adds to the write of a first data key under a native version the columns
// that were not read: a blank one would not open there.
func (g *group) writeUnread(w *Write) {
	recipe, err := g.box.Version(kmsencrypted.ColumnVersion(g.key.h.stored.text))
	if err != nil || recipe.Format != kmsencrypted.Native || !g.key.h.before().null {
		return
	}
	for _, s := range g.slots {
		h := s.head()
		if (h.state == unset || h.filled) && s.spec.rubyColumn != nil && s.spec.rubyColumn.storesEmpty() {
			w.Where = append(w.Where, Assignment{Column: s.spec.column})
		}
	}
}
