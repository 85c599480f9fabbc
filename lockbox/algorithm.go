package lockbox

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/nacl/box"
	"golang.org/x/crypto/nacl/secretbox"
)

// Algorithm is the algorithm: option of a box.
type Algorithm string

// The algorithms and the bytes that each makes of a plaintext. Nonces are random.
//
//	aes-gcm     nonce 12 || ciphertext || tag 16   AES-256
//	xchacha20   nonce 24 || ciphertext || tag 16   XChaCha20-Poly1305 (IETF)
//	xsalsa20    nonce 24 || tag 16 || ciphertext   libsodium's secretbox; no associated data
//	hybrid      nonce 24 || tag 16 || ciphertext   libsodium's box over X25519; no associated data
//
// Only aes-gcm works in a process restricted to FIPS-approved algorithms.
const (
	AESGCM    Algorithm = "aes-gcm" // the default
	XChaCha20 Algorithm = "xchacha20"
	XSalsa20  Algorithm = "xsalsa20"
	Hybrid    Algorithm = "hybrid" // see [NewHybrid]
)

// HybridKeySize is the size in bytes of the keys of [NewHybrid].
const HybridKeySize = 64

// newCipher returns a cipher that puts its random nonce in front of the ciphertext and
// takes no nonce argument.
func newCipher(key []byte, algorithm Algorithm) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, configError("a key has %d bytes, not %d", len(key), KeySize)
	}
	switch algorithm {
	case "", AESGCM:
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, configError("%w", err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, configError("%w", err)
		}
		return aead, nil
	case XChaCha20:
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			return nil, configError("%w", err)
		}
		return nonceInFront{aead, randomNonce}, nil
	case XSalsa20:
		return nonceInFront{newSecretBox(key), randomNonce}, nil
	case Hybrid:
		return nil, configError("algorithm hybrid takes two keys: use NewHybrid")
	}
	return nil, configError("unknown algorithm %q", algorithm)
}

// newHybridCipher returns the cipher for a private and a public key of 32 bytes each.
func newHybridCipher(private, public []byte) (cipher.AEAD, error) {
	curve := ecdh.X25519()
	ours, err := curve.NewPrivateKey(private)
	if err != nil {
		return nil, configError("%w", err)
	}
	theirs, err := curve.NewPublicKey(public)
	if err != nil {
		return nil, configError("%w", err)
	}
	// ECDH refuses public keys of low order, whose shared secret everybody knows. Precompute,
	// which makes libsodium's key of a box, does not.
	shared, err := ours.ECDH(theirs)
	clear(shared)
	if err != nil {
		return nil, configError("%w", err)
	}
	var key [KeySize]byte
	box.Precompute(&key, (*[KeySize]byte)(public), (*[KeySize]byte)(private))
	defer clear(key[:])
	return nonceInFront{newSecretBox(key[:]), randomNonce}, nil
}

// nonceInFront makes a cipher with explicit nonces behave like
// [cipher.NewGCMWithRandomNonce].
type nonceInFront struct {
	cipher.AEAD
	nonce func([]byte) // fills in the nonce
}

func randomNonce(nonce []byte) { rand.Read(nonce) }

func (c nonceInFront) NonceSize() int { return 0 }
func (c nonceInFront) Overhead() int  { return c.AEAD.NonceSize() + c.AEAD.Overhead() }

func (c nonceInFront) Seal(dst, _, plaintext, associatedData []byte) []byte {
	start, size := len(dst), c.AEAD.NonceSize()
	dst = slices.Grow(dst, c.Overhead()+len(plaintext))[:start+size]
	c.nonce(dst[start:])
	return c.AEAD.Seal(dst, dst[start:], plaintext, associatedData)
}

func (c nonceInFront) Open(dst, _, box, associatedData []byte) ([]byte, error) {
	if len(box) < c.Overhead() {
		return nil, errDecrypt
	}
	size := c.AEAD.NonceSize()
	return c.AEAD.Open(dst, box[:size], box[size:], associatedData)
}

// secretBox implements libsodium's secretbox as a cipher. It has no associated data;
// [Box] refuses it.
type secretBox struct{ key *[KeySize]byte }

func newSecretBox(key []byte) secretBox {
	return secretBox{(*[KeySize]byte)(slices.Clone(key))}
}

func (secretBox) NonceSize() int { return 24 }
func (secretBox) Overhead() int  { return secretbox.Overhead }

func (s secretBox) Seal(dst, nonce, plaintext, _ []byte) []byte {
	return secretbox.Seal(dst, plaintext, (*[24]byte)(nonce), s.key)
}

func (s secretBox) Open(dst, nonce, box, _ []byte) ([]byte, error) {
	plaintext, ok := secretbox.Open(dst, box, (*[24]byte)(nonce), s.key)
	if !ok {
		return nil, errDecrypt
	}
	return plaintext, nil
}
