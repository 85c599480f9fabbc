package multi

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
)

// A Box calls EncryptAll and DecryptAny and stores the wraps in the key column.
// Encrypt and Decrypt are for callers of a plain [kmsencrypted.Provider], who want
// one ciphertext. It has the layout of a native secret (spec/native.md section 3.2)
// with a commitment of its own:
//
//	format 1 | commitment 32 | count 1 | wraps | nonce 12 | ciphertext | tag 16
//
// The wraps are those of 32 random bytes. HKDF-Expand-SHA-512 derives from these
// the AES-256-GCM key that seals the value, and the commitment. Everything before
// the nonce is associated data, so that no wrap can be removed or added.

const (
	envelopeLabel   = "kmsencrypted/1 multi"
	envelopeKeySize = 32
)

// Encrypt seals plaintext of any size under a key that all providers wrap.
func (p *Provider) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	key := make([]byte, envelopeKeySize)
	rand.Read(key)
	defer clear(key)
	aead, commitment, err := envelope(key)
	if err != nil {
		return nil, err
	}
	wraps, err := p.EncryptAll(ctx, key, ec)
	if err != nil {
		return nil, err
	}
	head := keycolumn.Native{Format: keycolumn.FormatSecret, Commitment: commitment, Wraps: wraps}
	out, err := head.Append(nil)
	if err != nil {
		return nil, p.failed(kmsencrypted.OpWrap, kmsencrypted.ErrTooLarge, err)
	}
	return aead.Seal(out, nil, plaintext, associatedData(out, ec)), nil
}

// Decrypt opens what Encrypt returned, with the first provider that answers.
func (p *Provider) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) (plaintext []byte, err error) {
	if err := p.Check(); err != nil {
		return nil, p.failed(kmsencrypted.OpUnwrap, err, nil)
	}
	refused := p.failed(kmsencrypted.OpUnwrap, kmsencrypted.ErrDecrypt, nil)
	native, err := keycolumn.Parse(ciphertext)
	if err != nil || native.Format != keycolumn.FormatSecret {
		return nil, refused
	}
	head := ciphertext[:len(ciphertext)-len(native.Rest)]
	var opener cipher.AEAD
	key, err := p.DecryptAny(ctx, native.Wraps, ec, func(key []byte) error {
		aead, commitment, err := envelope(key)
		if err != nil || subtle.ConstantTimeCompare(commitment[:], native.Commitment[:]) != 1 {
			return kmsencrypted.ErrDecrypt
		}
		opener = aead
		return nil
	})
	if err != nil {
		return nil, err
	}
	clear(key)
	plaintext, err = opener.Open(nil, nil, native.Rest, associatedData(head, ec))
	if err != nil {
		return nil, refused
	}
	return plaintext, nil
}

// envelope derives the cipher and the commitment from a key.
func envelope(key []byte) (aead cipher.AEAD, commitment [keycolumn.CommitmentSize]byte, err error) {
	// The key is uniformly random, so there is nothing to extract.
	okm, err := hkdf.Expand(sha512.New, key, envelopeLabel, envelopeKeySize+len(commitment))
	if err != nil {
		return nil, commitment, err
	}
	defer clear(okm)
	copy(commitment[:], okm[envelopeKeySize:])
	block, err := aes.NewCipher(okm[:envelopeKeySize])
	if err != nil {
		return nil, commitment, err
	}
	// GODEBUG=fips140=only allows only random nonces.
	aead, err = cipher.NewGCMWithRandomNonce(block)
	return aead, commitment, err
}

// associatedData encodes the length, which distinguishes an absent context from an
// empty one.
func associatedData(head []byte, ec kmsencrypted.BoundContext) []byte {
	ad := canon.AppendBytes(canon.Strings(envelopeLabel), head)
	if ec.Absent() {
		return ad
	}
	return canon.AppendBytes(ad, ec.Bytes())
}
