package files

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
)

// The body is c2sp.org/chunked-encryption with AES-256-GCM and SHA-512:
//
//	salt 24 || commitment 32 || chunk 0 || chunk 1 || ... || last chunk
//
// Every chunk but the last has 16384 bytes and a tag of 16 bytes. The last chunk
// is shorter, which marks it as the last.
const (
	derivationLabel = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"
	aeadKeySize     = 32
	nonceSize       = 12
)

// body seals and opens the chunks of one object. It is safe for concurrent use.
type body struct {
	aead       cipher.AEAD
	baseNonce  [nonceSize]byte
	commitment [commitSize]byte
}

// newBody derives the keys of one object. context is bound to the body: it is the
// header.
func newBody(k Key, salt, context []byte) (*body, error) {
	b := new(body)
	return b, k.use(func(key []byte) error {
		okm, err := deriveBody(key, salt, context)
		if err != nil {
			return err
		}
		defer clear(okm)
		block, err := aes.NewCipher(okm[:aeadKeySize])
		if err != nil {
			return configError("%w", err)
		}
		// Derived nonces are not allowed by FIPS 140: this fails under
		// GODEBUG=fips140=only.
		if b.aead, err = cipher.NewGCM(block); err != nil {
			return configError("%w", err)
		}
		copy(b.baseNonce[:], okm[aeadKeySize:])
		copy(b.commitment[:], okm[aeadKeySize+nonceSize:])
		return nil
	})
}

// deriveBody returns key, base nonce and commitment of a body, which the caller must clear.
func deriveBody(key, salt, context []byte) ([]byte, error) {
	okm, err := hkdf.Expand(sha512.New, key, derivationLabel+string(salt)+string(context), aeadKeySize+nonceSize+commitSize)
	if err != nil {
		return nil, configError("%w", err)
	}
	return okm, nil
}

// openBody is like newBody for a body that begins with prefix: salt and
// commitment.
func openBody(k Key, prefix, context []byte) (*body, error) {
	b, err := newBody(k, prefix[:saltSize], context)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(b.commitment[:], prefix[saltSize:]) != 1 {
		return nil, errHeader
	}
	return b, nil
}

func (b *body) nonce(index int64) []byte {
	nonce := b.baseNonce
	low := nonce[nonceSize-8:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^uint64(index))
	return nonce[:]
}

// seal appends a sealed chunk to dst.
func (b *body) seal(dst, chunk []byte, index int64) ([]byte, error) {
	// The chunk with the highest number is never full.
	if index >= maxChunks-1 && (index >= maxChunks || len(chunk) == ChunkSize) {
		return dst, errSize
	}
	return b.aead.Seal(dst, b.nonce(index), chunk, nil), nil
}

// sealAll appends sealed whole chunks. index is the number of the first.
func (b *body) sealAll(dst, chunks []byte, index int64) (_ []byte, err error) {
	for ; len(chunks) > 0 && err == nil; index++ {
		dst, err = b.seal(dst, chunks[:ChunkSize], index)
		chunks = chunks[ChunkSize:]
	}
	return dst, err
}

// open appends the plaintext of a sealed chunk to dst.
func (b *body) open(dst, sealed []byte, index int64) ([]byte, error) {
	switch {
	case index >= maxChunks, index == maxChunks-1 && len(sealed) == sealedChunk:
		return dst, errSize
	case len(sealed) < tagSize:
		return dst, ErrTruncated
	}
	plaintext, err := b.aead.Open(dst, b.nonce(index), sealed, nil)
	if err != nil {
		return dst, fmt.Errorf("files: chunk %d: %w", index, kmsencrypted.ErrDecrypt)
	}
	return plaintext, nil
}

// openAll appends the plaintext of sealed chunks, up to the first that does not
// open. The last may be shorter.
func (b *body) openAll(dst, sealed []byte, index int64) (_ []byte, err error) {
	for ; len(sealed) > 0 && err == nil; index++ {
		n := min(len(sealed), sealedChunk)
		dst, err = b.open(dst, sealed[:n], index)
		sealed = sealed[n:]
	}
	return dst, err
}
