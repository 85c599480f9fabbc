package kmsencrypted

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
)

// secretLabel is the associated data of a secret's value. The commitment binds
// context and data key (spec/native.md section 6).
var secretLabel = canon.Strings("kmsencrypted/1 secret")

// Encrypt seals a small secret that belongs to no table, such as a token or a
// password, and returns text to store. It makes one call to the key service.
//
// Under a native version the secret is sealed under a data key of its own, so it
// may have any size. Under a Ruby version the key service encrypts the secret
// itself, exactly as kms_encrypted's Box: AWS accepts 4096 bytes, Google Cloud
// 65536.
func (b *Box) Encrypt(ctx context.Context, plaintext []byte, ec EncryptionContext) (column string, err error) {
	if err := b.usable(); err != nil {
		return "", err
	}
	binding := Binding{Context: ec}
	if b.config.Versions[b.config.Current].Format == Ruby {
		w, err := b.target(binding, keycolumn.FormatSecret)
		if err != nil {
			return "", err
		}
		w.raw = plaintext
		wraps, err := b.encrypt(ctx, w)
		if err != nil {
			return "", err
		}
		return w.column(wraps)
	}
	k := NewDataKey()
	defer k.Wipe()
	w, err := b.wrapping(ctx, k, binding, keycolumn.FormatSecret)
	if err != nil {
		return "", err
	}
	defer clear(w.raw)
	wraps, err := b.encrypt(ctx, w)
	if err != nil {
		return "", err
	}
	cipher, err := k.Cipher()
	if err != nil {
		return "", err
	}
	return w.native(wraps, cipher.Seal(nil, nil, plaintext, secretLabel))
}

// Decrypt opens what [Box.Encrypt] or kms_encrypted's Box returned, of any listed
// version. The context must be the one it was sealed under. The errors are those
// of [Box.Unwrap]. The caller must wipe the result.
func (b *Box) Decrypt(ctx context.Context, column string, ec EncryptionContext) (plaintext []byte, err error) {
	u, err := b.unwrapping(column, Binding{Context: ec}, keycolumn.FormatSecret)
	if err == nil {
		err = u.parse()
	}
	if err != nil {
		return nil, err
	}
	if u.recipe.Format == Ruby {
		return b.decrypt(ctx, u)
	}
	k, err := b.open(ctx, u)
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	cipher, err := k.Cipher()
	if err != nil {
		return nil, err
	}
	plaintext, err = cipher.Open(nil, nil, u.rest, secretLabel)
	if err != nil {
		return nil, &Error{Op: "open", Version: u.version, Err: ErrDecrypt}
	}
	return plaintext, nil
}
