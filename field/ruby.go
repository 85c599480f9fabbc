package field

import (
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
)

// rubyColumn is an encrypted column in the form of a Ruby gem: the codec of its
// values, and how they are sealed under a key.
type rubyColumn interface {
	codec() *codec
	// under returns what seals and opens the column under a data key.
	under(key []byte) (rubySealer, error)
	// storesEmpty reports whether the empty plaintext is stored as it is: see isBlank.
	storesEmpty() bool
	// variant returns a text that is equal for columns with the same sealer.
	variant() string
}

// rubySealer seals and opens columns of one variant under one key.
type rubySealer interface {
	seal(plaintext, associated []byte, isBinary bool, buf *scratch) (columns, error)
	open(c columns, associated []byte, isBinary bool, buf *scratch) (plaintext []byte, err error)
}

// newRubyColumn returns the Ruby form that a tag selects.
func newRubyColumn(s *schema, f *fieldSpec, holder holder) (rubyColumn, error) {
	switch f.ruby {
	case lockboxForm:
		return newLockboxColumn(s, f, holder.valueType())
	case attrEncryptedForm:
		return newAttrEncryptedColumn(s, f, holder.valueType())
	case activeRecordForm:
		return newActiveRecordColumn(s, f, holder.valueType())
	}
	return nil, nil
}

// rubyCipher seals and opens the Ruby columns of one record. The gems use the data
// key itself.
type rubyCipher struct {
	key     kmsencrypted.DataKey
	sealers []variantSealer
	usual   [1]variantSealer // backs them: few records have columns of several variants
}

type variantSealer struct {
	variant string
	rubySealer
}

func newRubyCipher(k kmsencrypted.DataKey) *rubyCipher {
	r := &rubyCipher{key: k}
	r.sealers = r.usual[:0]
	return r
}

func (r *rubyCipher) codec(f *fieldSpec) *codec { return f.rubyColumn.codec() }

func (r *rubyCipher) sealer(f *fieldSpec) (rubySealer, error) {
	for i := range r.sealers {
		if r.sealers[i].variant == f.variant {
			return r.sealers[i].rubySealer, nil
		}
	}
	raw, err := r.key.Raw()
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	s, err := f.rubyColumn.under(raw)
	if err != nil {
		return nil, err
	}
	r.sealers = append(r.sealers, variantSealer{f.variant, s})
	return s, nil
}

func (r *rubyCipher) seal(f *fieldSpec, plaintext, associated []byte, buf *scratch) (columns, error) {
	s, err := r.sealer(f)
	if err != nil {
		return columns{}, err
	}
	return s.seal(plaintext, associated, f.binary, buf)
}

func (r *rubyCipher) open(f *fieldSpec, c columns, associated []byte, buf *scratch) ([]byte, error) {
	s, err := r.sealer(f)
	if err != nil {
		return nil, err
	}
	return s.open(c, associated, f.binary, buf)
}

// masterCipher seals and opens the columns under keys of the application: Lockbox's
// master key, which has an attribute key for each, or those of ActiveRecord Encryption.
// They have no data key and no version.
type masterCipher map[*fieldSpec]rubySealer

func (m masterCipher) codec(f *fieldSpec) *codec { return f.rubyColumn.codec() }

func (m masterCipher) seal(f *fieldSpec, plaintext, associated []byte, buf *scratch) (columns, error) {
	return m[f].seal(plaintext, associated, f.binary, buf)
}

func (m masterCipher) open(f *fieldSpec, c columns, associated []byte, buf *scratch) ([]byte, error) {
	return m[f].open(c, associated, f.binary, buf)
}

// newMasterCipher derives the attribute keys of all columns under Lockbox's master key.
func newMasterCipher(s *schema, fields []*fieldSpec) (masterCipher, error) {
	m := make(masterCipher, len(fields))
	for _, f := range fields {
		if c, ok := f.rubyColumn.(*activeRecordColumn); ok {
			m[f] = c
			continue
		}
		if c, ok := f.rubyColumn.(*lockboxColumn); ok && c.given != nil {
			m[f] = lockboxSealer{c.given}
			continue
		}
		key, err := s.config.LockboxMasterKey.AttributeKey(or(f.keyTable, s.config.Table), or(f.keyAttr, f.column))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.goName, err)
		}
		if m[f], err = f.rubyColumn.under(key); err != nil {
			return nil, fmt.Errorf("%s: %w", f.goName, err)
		}
		clear(key)
	}
	return m, nil
}
