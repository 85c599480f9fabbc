package activerecord

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// Attribute encrypts and decrypts the columns of one attribute. NULL is no column of it:
// Rails stores nil as NULL, and encrypts the empty string. An Attribute is immutable and
// safe for concurrent use, and prints as "[redacted]". The zero value is not usable.
type Attribute struct {
	secret.Redacted
	hidden secret.Pointer[attribute]
}

type attribute struct {
	variants     []variant // the current one first
	writes       int       // the one to write
	plaintext    Plaintext
	limit        int
	keepEncoding bool
	unencrypted  []byte // the default of the column; nil is none
}

// variant is a scheme with its keys.
type variant struct {
	serializer
	keys                          []*key // the last encrypts
	envelope                      bool   // keys wrap a data key
	deterministic, downcase, null bool
	references                    bool
	deflate, inflate              Compressor // no deflate: nothing is compressed
}

var errZero = configError("the Attribute was not made by Encryption.Attribute")

// ReadsPlaintext reports whether a column may hold a text that is not encrypted.
func (a *Attribute) ReadsPlaintext() bool {
	attribute := a.get()
	return attribute != nil && attribute.readsPlaintext()
}

func (a *attribute) readsPlaintext() bool {
	return a.plaintext == PlaintextRead || a.plaintext == PlaintextLax ||
		slices.ContainsFunc(a.variants, func(v variant) bool { return v.null })
}

func (a *Attribute) get() *attribute {
	if a == nil {
		return nil
	}
	return a.hidden.Get()
}

// Encrypt returns the column of a text. It returns [kmsencrypted.ErrLossy] for a text
// that would not come back: bytes outside ASCII in a deterministic attribute of bytes,
// and text that is not UTF-8 in an attribute that converts it or its case.
func (a *Attribute) Encrypt(t Text) ([]byte, error) {
	attribute := a.get()
	if attribute == nil {
		return nil, errZero
	}
	return attribute.encrypt(&attribute.variants[attribute.writes], t, nil)
}

// encrypt encrypts under a variant, with a nonce that is random unless the variant or
// the caller has one.
func (a *attribute) encrypt(v *variant, t Text, iv []byte) ([]byte, error) {
	text, err := a.prepare(v, t.get())
	if err != nil {
		return nil, err
	}
	plaintext, compressed := text.bytes, false
	if len(plaintext) > compressAbove && v.deflate != nil {
		if plaintext, err = v.deflate.Deflate(plaintext); err != nil {
			return nil, fmt.Errorf("activerecord: deflate: %w", err)
		}
		compressed = true
		defer clear(plaintext)
	}
	k := v.keys[len(v.keys)-1]
	id := k.id
	var wrapped *message
	if v.envelope {
		dataKey, raw, err := newDataKey()
		if err != nil {
			return nil, err
		}
		defer clear(raw)
		if wrapped, err = k.seal(raw, nil); err != nil {
			return nil, err
		}
		wrapped.add("e", []byte(EncodingBinary))
		k = dataKey
	}
	if v.deterministic {
		iv = k.iv(plaintext)
	}
	m, err := k.seal(plaintext, iv)
	if err != nil {
		return nil, err
	}
	if !isUnlabelled(text.encoding) {
		m.add("e", []byte(text.encoding))
	}
	if wrapped != nil {
		m.add("k", wrapped)
	}
	if v.references {
		m.add("i", []byte(id))
	}
	if compressed {
		m.add("c", true)
	}
	return v.append(nil, m), nil
}

// prepare returns the text to encrypt: in lower case, and in UTF-8 if it is
// deterministic.
func (a *attribute) prepare(v *variant, t text) (text, error) {
	if v.downcase {
		if !isUnlabelled(t.encoding) || !utf8.Valid(t.bytes) {
			return t, fmt.Errorf("activerecord: %w: lower case of what is not UTF-8", kmsencrypted.ErrLossy)
		}
		t.bytes = []byte(downcase(string(t.bytes)))
	}
	if !v.deterministic || a.keepEncoding || isUnlabelled(t.encoding) {
		return t, nil
	}
	if isBinary(t.encoding) && slices.ContainsFunc(t.bytes, func(b byte) bool { return b >= utf8.RuneSelf }) {
		return t, fmt.Errorf("activerecord: %w: Rails replaces bytes above 7f in a deterministic attribute", kmsencrypted.ErrLossy)
	}
	converted, err := NewText(t.bytes, t.encoding).UTF8()
	return text{converted, EncodingUTF8}, err
}

// Decrypt returns the text of a column, which must not be NULL. It returns
// [kmsencrypted.ErrNotCiphertext] for a column that is no message,
// [kmsencrypted.ErrMalformed] for a message that Rails never wrote,
// [kmsencrypted.ErrDecrypt] for a message that does not open under any key of the
// attribute, and [kmsencrypted.ErrTooLarge] for one that inflates to more than
// Config.MaxInflated.
func (a *Attribute) Decrypt(column []byte) (Text, error) {
	text, _, err := a.decrypt(column)
	return text, err
}

// IsMessage reports whether a column is a message, under any key: encrypted_attribute? in
// Rails.
func (a *Attribute) IsMessage(column []byte) bool {
	attribute := a.get()
	return attribute != nil && slices.ContainsFunc(attribute.variants, func(v variant) bool {
		_, err := v.parse(column)
		return err == nil
	})
}

// IsCurrent reports whether a column is encrypted as [Attribute.Encrypt] would do it now:
// under the same scheme and the newest key. If not, encrypt its text again, for example
// after a primary key was added. It returns the errors of [Attribute.Decrypt].
func (a *Attribute) IsCurrent(column []byte) (bool, error) {
	_, current, err := a.decrypt(column)
	return current, err
}

func (a *Attribute) decrypt(column []byte) (t Text, current bool, err error) {
	attribute := a.get()
	if attribute == nil {
		return Text{}, false, errZero
	}
	if attribute.unencrypted != nil && bytes.Equal(column, attribute.unencrypted) {
		return NewText(bytes.Clone(column), EncodingUTF8), true, nil
	}
	err = errNotMessage
	for i := range attribute.variants {
		v := &attribute.variants[i]
		if v.null {
			return NewText(bytes.Clone(column), EncodingUTF8), false, nil
		}
		text, newest, failure := v.decrypt(column, attribute.limit)
		switch {
		case failure == nil:
			return text, newest && i == attribute.writes, nil
		case errors.Is(failure, errFinal) && !errors.Is(failure, errNoDataKey):
			return Text{}, false, failure
		case err == errNotMessage:
			err = failure
		}
	}
	switch {
	case errors.Is(err, errFinal):
	case attribute.plaintext == PlaintextLax, attribute.plaintext == PlaintextRead && err == errNotMessage && !attribute.resembles(column):
		return NewText(bytes.Clone(column), EncodingUTF8), false, nil
	case attribute.plaintext == PlaintextRead && err == errNotMessage:
		err = malformed("the beginning of a message")
	}
	return Text{}, false, err
}

func (a *attribute) resembles(column []byte) bool {
	return slices.ContainsFunc(a.variants, func(v variant) bool { return v.serializer.resembles(column) })
}

// errFinal marks the errors after which Rails does not try the next scheme.
var errFinal = errors.New("authenticated")

// errNoDataKey means that an envelope has no data key. Rails fails; here another scheme may
// still read the column.
var errNoDataKey = errors.New("no data key")

func final(err error) error { return fmt.Errorf("%w (%w)", err, errFinal) }

// decrypt opens a column under one scheme. newest says that it was under the last key.
func (v *variant) decrypt(column []byte, limit int) (t Text, newest bool, err error) {
	m, err := v.parse(column)
	if err != nil {
		return Text{}, false, err
	}
	plaintext, newest, err := v.open(m)
	if err != nil {
		return Text{}, false, err
	}
	encoding := EncodingUTF8
	if e := m.get("e"); e != nil {
		name, ok := e.([]byte)
		if !ok || len(name) == 0 {
			return Text{}, false, final(malformed("an encoding without a name"))
		}
		encoding = string(name)
	}
	if m.isSet("c") {
		deflated := plaintext
		defer clear(deflated)
		switch plaintext, err = v.inflate.Inflate(deflated, limit); {
		case errors.Is(err, kmsencrypted.ErrTooLarge):
			return Text{}, false, final(fmt.Errorf("activerecord: %w: the text inflates to more than %d bytes", kmsencrypted.ErrTooLarge, limit))
		case err != nil:
			return Text{}, false, final(malformed("%w", err))
		}
	}
	return NewText(plaintext, encoding), newest, nil
}

// open returns the plaintext of a message, still compressed.
func (v *variant) open(m *message) (plaintext []byte, newest bool, err error) {
	if !v.envelope {
		return v.openUnder(m, m)
	}
	wrapped, ok := m.get("k").(*message)
	if !ok {
		return nil, false, final(malformed("%w", errNoDataKey))
	}
	raw, newest, err := v.openUnder(m, wrapped)
	if err != nil {
		return nil, false, err
	}
	defer clear(raw)
	if len(raw) != KeySize {
		return nil, false, errDecrypt
	}
	dataKey, err := newKey(raw)
	if err != nil {
		return nil, false, err
	}
	plaintext, err = dataKey.open(m)
	return plaintext, newest, err
}

// openUnder opens a message under the key that outer names, or any if it names none.
func (v *variant) openUnder(outer, m *message) (plaintext []byte, newest bool, err error) {
	reference, _ := outer.get("i").([]byte)
	for i, k := range v.keys {
		if outer.isSet("i") && string(reference) != k.id {
			continue
		}
		if plaintext, err = k.open(m); err != errDecrypt {
			return plaintext, i == len(v.keys)-1, err
		}
	}
	return nil, false, errDecrypt
}

// Lookup returns what a column may hold whose text is t: as it is written, as the
// current and each previous scheme write it, and the text itself where plaintext is
// read. Search for rows with column IN (…). It returns [kmsencrypted.ErrConfig] for an
// attribute that is not written deterministically. Columns under a previous scheme that
// is not deterministic are not found.
func (a *Attribute) Lookup(t Text) ([][]byte, error) {
	attribute := a.get()
	if attribute == nil {
		return nil, errZero
	}
	if w := attribute.variants[attribute.writes]; !w.deterministic || w.envelope {
		return nil, configError("a look-up in an attribute that is not deterministic")
	}
	var found [][]byte
	add := func(column []byte) {
		if !slices.ContainsFunc(found, func(c []byte) bool { return bytes.Equal(c, column) }) {
			found = append(found, column)
		}
	}
	order := append([]variant{attribute.variants[attribute.writes]}, attribute.variants...)
	for i := range order {
		v := &order[i]
		if !v.deterministic || v.envelope || v.null {
			continue
		}
		column, err := attribute.encrypt(v, t, nil)
		if err != nil {
			return nil, err
		}
		add(column)
	}
	if attribute.readsPlaintext() {
		current := attribute.variants[0]
		current.deterministic = false // which would convert it
		plain, err := attribute.prepare(&current, t.get())
		if err != nil {
			return nil, err
		}
		add(plain.bytes)
	}
	return found, nil
}
