package files

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/mac"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// Format is the format of an object. A wrapped key is bound to it.
type Format string

// The formats of objects.
const (
	Native  Format = "native"  // this package's
	Lockbox Format = "lockbox" // package files/lockbox
)

// Place identifies what a wrapped key belongs to. A key copied to another row, or
// used for another object, does not open.
type Place struct {
	Format     Format
	Table      string
	ID         []string // the columns of the record's primary key, as text
	Attachment string   // the name of the attachment, such as "license"
	File       ID
	// Parent is the file that this one was derived from, such as the picture of a
	// preview. The zero value means that it was not derived.
	Parent ID
}

// A wrapped file key is text for a column (spec/files.md section 4):
//
//	fk2: || base64url(nonce 12 || file key 32 || tag 16)
//
// Older releases wrote fk1, which is not bound to the parent.
const (
	wrapPrefix  = "fk2:"
	oldPrefix   = "fk1:"
	wrapLabel   = "kmsencrypted/1 file key"
	wrappedSize = 12 + KeySize + 16
	wrappedText = wrappedSize / 3 * 4
)

var strictBase64 = base64.RawURLEncoding.Strict()

// WrapKey encrypts a file key under the data key of its record and returns 84 ASCII
// characters. It takes about a microsecond and does not call the key service.
//
// WrapKey returns [kmsencrypted.ErrConfig] for a place without format, table,
// attachment or file, [kmsencrypted.ErrNoID] for a place without a record, and
// [kmsencrypted.ErrWiped] for a wiped file key. The other errors are those of
// [kmsencrypted.DataKey.Raw].
func WrapKey(dataKey kmsencrypted.DataKey, k Key, p Place) (string, error) {
	return wrapKey(func() (*Wrapper, error) { return NewWrapper(dataKey) }, k, p)
}

// Wrapper does [WrapKey] and [UnwrapKey] under one data key, for all files of a
// record. It derives its key once. It is safe for concurrent use, keeps working
// after the data key was wiped, and prints as "[redacted]".
type Wrapper struct {
	secret.Redacted
	hidden secret.Pointer[cipher.AEAD]
}

// NewWrapper returns a Wrapper for a data key. The errors are those of
// [kmsencrypted.DataKey.Raw].
func NewWrapper(dataKey kmsencrypted.DataKey) (*Wrapper, error) {
	aead, err := wrappingCipher(dataKey)
	if err != nil {
		return nil, err
	}
	return &Wrapper{hidden: secret.Hide(aead)}, nil
}

// Wrap is like [WrapKey].
func (w *Wrapper) Wrap(k Key, p Place) (string, error) {
	return wrapKey(func() (*Wrapper, error) { return w, nil }, k, p)
}

// wrapKey asks for the data key only if the place is valid.
func wrapKey(under func() (*Wrapper, error), k Key, p Place) (string, error) {
	associatedData, err := p.canonical(wrapPrefix)
	if err != nil {
		return "", err
	}
	aead, err := cipherOf(under)
	if err != nil {
		return "", err
	}
	wrapped := make([]byte, 0, wrappedSize)
	err = k.use(func(key []byte) error {
		wrapped = aead.Seal(wrapped, nil, key, associatedData)
		return nil
	})
	if err != nil {
		return "", err
	}
	var text [len(wrapPrefix) + wrappedText]byte
	copy(text[:], wrapPrefix)
	base64.RawURLEncoding.Encode(text[len(wrapPrefix):], wrapped)
	return string(text[:]), nil
}

// UnwrapKey decrypts what [WrapKey] returned, also in older releases, whose text
// begins with "fk1:" and is not bound to Place.Parent. The caller must wipe the key.
//
// UnwrapKey returns [kmsencrypted.ErrNotCiphertext] for text without the prefix,
// [kmsencrypted.ErrMalformed] for text that is malformed after it, and
// [kmsencrypted.ErrDecrypt] for another data key, another place or changed text. The
// other errors are those of WrapKey.
func UnwrapKey(dataKey kmsencrypted.DataKey, wrapped string, p Place) (Key, error) {
	return unwrapKey(func() (*Wrapper, error) { return NewWrapper(dataKey) }, wrapped, p)
}

// Unwrap is like [UnwrapKey].
func (w *Wrapper) Unwrap(wrapped string, p Place) (Key, error) {
	return unwrapKey(func() (*Wrapper, error) { return w, nil }, wrapped, p)
}

// unwrapKey asks for the data key only if text may be a wrapped key.
func unwrapKey(under func() (*Wrapper, error), wrapped string, p Place) (Key, error) {
	prefix := wrapPrefix
	if strings.HasPrefix(wrapped, oldPrefix) {
		prefix = oldPrefix
	}
	associatedData, err := p.canonical(prefix)
	if err != nil {
		return Key{}, err
	}
	text, ok := strings.CutPrefix(wrapped, prefix)
	if !ok {
		return Key{}, fmt.Errorf("files: wrapped key: %w", kmsencrypted.ErrNotCiphertext)
	}
	if len(text) != wrappedText {
		return Key{}, malformed("wrapped key")
	}
	// The decoder skips line breaks, so check the decoded length too.
	sealed, err := strictBase64.DecodeString(text)
	if err != nil || len(sealed) != wrappedSize {
		return Key{}, malformed("wrapped key")
	}
	aead, err := cipherOf(under)
	if err != nil {
		return Key{}, err
	}
	raw, err := aead.Open(sealed[:0], nil, sealed, associatedData)
	if err != nil {
		return Key{}, fmt.Errorf("files: wrapped key: %w", kmsencrypted.ErrDecrypt)
	}
	defer clear(raw)
	return KeyFrom(raw)
}

// IsWrappedKey reports whether text begins like the result of [WrapKey]. Other text
// may be the result of a [kmsencrypted.Box].
func IsWrappedKey(text string) bool {
	return strings.HasPrefix(text, wrapPrefix) || strings.HasPrefix(text, oldPrefix)
}

// cipherOf returns the cipher of a Wrapper. It returns [kmsencrypted.ErrConfig] for
// a nil or zero Wrapper.
func cipherOf(under func() (*Wrapper, error)) (cipher.AEAD, error) {
	w, err := under()
	if err != nil {
		return nil, err
	}
	if w != nil {
		if aead := w.hidden.Get(); aead != nil {
			return *aead, nil
		}
	}
	return nil, configError("the Wrapper was not made by NewWrapper")
}

func wrappingCipher(dataKey kmsencrypted.DataKey) (cipher.AEAD, error) {
	raw, err := dataKey.Raw()
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	key, err := mac.Expand(raw, wrapLabel, KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, configError("%w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// usualPlace is the capacity that a typical place fits into.
const usualPlace = 160

// canonical returns the place as associated data of a wrapped key with a prefix.
func (p Place) canonical(prefix string) ([]byte, error) {
	switch {
	case p.Format == "", p.Table == "", p.Attachment == "", p.File.IsZero():
		return nil, configError("a file's place needs format, table, attachment and file id")
	case len(p.ID) == 0:
		return nil, fmt.Errorf("files: %w", kmsencrypted.ErrNoID)
	}
	label := "file/2"
	if prefix == oldPrefix {
		label = "file"
	}
	out := make([]byte, 0, usualPlace)
	for _, text := range []string{label, string(p.Format), p.Table} {
		out = canon.AppendString(out, text)
	}
	out = canon.AppendCount(out, len(p.ID))
	for _, id := range p.ID {
		out = canon.AppendString(out, id)
	}
	out = canon.AppendString(out, p.Attachment)
	out = canon.AppendBytes(out, p.File[:])
	switch {
	case prefix == oldPrefix:
		return out, nil
	case p.Parent.IsZero():
		return canon.AppendBytes(out, nil), nil
	}
	return canon.AppendBytes(out, p.Parent[:]), nil
}
