package field

import (
	"bytes"
	"crypto/cipher"
	"encoding/base64"
	"reflect"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/nativefield"
	"github.com/kmsencrypted/kmsencrypted/internal/strict64"
)

// fieldLabel begins the associated data of every column.
const fieldLabel = "kmsencrypted/1 field"

// nativeColumn is an encrypted column in native form: how its values become
// bytes, and what they are bound to. A value (spec/native.md section 5) is
//
//	format 1 | key tag 8 | nonce 12 | ciphertext | tag 16
//
// in standard base64, or as it is in a binary column.
type nativeColumn struct {
	codec  codec
	plain  []byte // associated data of nativefield.Plain
	padded []byte // and of nativefield.Padded
}

func newNativeColumn(table string, s *fieldSpec, t reflect.Type, config Config) (nativeColumn, error) {
	option := s.valType
	if s.ruby != "" && !nativeOption(option) {
		option = "" // one of Lockbox's types; the Go type determines the codec
	}
	c, err := nativeCodec(t, option, config)
	if err != nil {
		return nativeColumn{}, err
	}
	associated := func(format byte) []byte {
		ad := canon.Strings(fieldLabel)
		ad = append(ad, format)
		for _, part := range []string{table, s.bound, c.name} {
			ad = canon.AppendString(ad, part)
		}
		return ad
	}
	return nativeColumn{codec: c, plain: associated(nativefield.Plain), padded: associated(nativefield.Padded)}, nil
}

// nativeCipher seals and opens the native columns of one record.
type nativeCipher struct {
	aead cipher.AEAD
	tag  [kmsencrypted.KeyTagSize]byte
}

func (n *nativeCipher) init(k kmsencrypted.DataKey) (err error) {
	if n.tag, err = k.Tag(); err == nil {
		n.aead, err = k.Cipher()
	}
	return err
}

func (n *nativeCipher) codec(f *fieldSpec) *codec { return &f.native.codec }

func (n *nativeCipher) seal(s *fieldSpec, plaintext, _ []byte, buf *scratch) (columns, error) {
	format, ad := nativefield.Plain, s.native.plain
	if s.padding > 0 {
		format, ad = nativefield.Padded, s.native.padded
		plaintext = pad(plaintext, s.padding)
		buf.plain = plaintext
	}
	sealed := append(buf.sealed[:0], format)
	sealed = append(sealed, n.tag[:]...)
	sealed = n.aead.Seal(sealed, nil, plaintext, ad)
	buf.sealed = sealed
	if s.binary {
		return columns{value: stored{binary: true, text: string(sealed)}}, nil
	}
	buf.text = strict64.AppendEncode(buf.text[:0], sealed)
	return columns{value: stored{text: string(buf.text)}}, nil
}

func (n *nativeCipher) open(s *fieldSpec, c columns, _ []byte, buf *scratch) (plaintext []byte, err error) {
	sealed, err := nativeBytes(c.value, s.binary, buf)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(sealed[1:nativefield.Head], n.tag[:]) {
		return nil, kmsencrypted.ErrOtherDataKey
	}
	ad := s.native.plain
	if sealed[0] == nativefield.Padded {
		ad = s.native.padded
	}
	plaintext, err = n.aead.Open(buf.plain[:0], nil, sealed[nativefield.Head:], ad)
	if err != nil {
		return nil, kmsencrypted.ErrDecrypt
	}
	buf.plain = plaintext
	if sealed[0] == nativefield.Padded {
		return unpad(plaintext)
	}
	return plaintext, nil
}

// nativeBytes decodes a column and checks for the native layout.
func nativeBytes(column stored, isBinary bool, buf *scratch) ([]byte, error) {
	sealed, ok := buf.sealed[:0], true
	if isBinary {
		sealed = append(sealed, column.text...)
	} else if sealed, ok = strict64.AppendDecode(sealed, column.text); !ok {
		return nil, notNative(column)
	}
	buf.sealed = sealed
	if !nativefield.IsFormat(sealed) {
		return nil, kmsencrypted.ErrNotCiphertext
	}
	if len(sealed) < nativefield.Overhead {
		return nil, kmsencrypted.ErrMalformed
	}
	return sealed, nil
}

// notNative distinguishes a ciphertext with broken base64 from other content:
// the first character of a native column is always 'w'.
func notNative(column stored) error {
	head, err := base64.StdEncoding.DecodeString(column.text[:min(4, len(column.text))])
	if err == nil && nativefield.IsFormat(head) {
		return kmsencrypted.ErrMalformed
	}
	return kmsencrypted.ErrNotCiphertext
}

// nativeTag returns the key tag in a native column, if text is one.
func nativeTag(text string, buf *scratch) (tag [kmsencrypted.KeyTagSize]byte, ok bool) {
	for _, isBinary := range []bool{false, true} {
		sealed, err := nativeBytes(stored{text: text}, isBinary, buf)
		if err == nil {
			return [kmsencrypted.KeyTagSize]byte(sealed[1:]), true
		}
	}
	return tag, false
}

// pad appends 0x80 and zeros up to a multiple of size (ISO/IEC 7816-4).
func pad(plaintext []byte, size int) []byte {
	plaintext = append(plaintext, 0x80)
	if over := len(plaintext) % size; over > 0 {
		plaintext = append(plaintext, make([]byte, size-over)...)
	}
	return plaintext
}

// unpad removes what pad appended. The padding was authenticated, so an error in
// it was made by the writer.
func unpad(padded []byte) ([]byte, error) {
	plaintext := bytes.TrimRight(padded, "\x00")
	if len(plaintext) == 0 || plaintext[len(plaintext)-1] != 0x80 {
		return nil, kmsencrypted.ErrMalformed
	}
	return plaintext[:len(plaintext)-1], nil
}
