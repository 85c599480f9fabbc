package limit

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"

	"github.com/kmsencrypted/kmsencrypted"
)

// Key is a key of this library that wraps in memory with one AES-GCM, as the limit
// does.
type Key struct{ aead cipher.AEAD }

// NewKey returns a random key.
func NewKey() Key { return Key{aead: GCM(Random(32))} }

// Info implements [kmsencrypted.Provider].
func (Key) Info() kmsencrypted.KeyInfo {
	return kmsencrypted.KeyInfo{Provider: "memory", KeyID: "bench", Tag: "memory"}
}

// InMemory implements [kmsencrypted.InMemory].
func (Key) InMemory() {}

// Encrypt implements [kmsencrypted.Provider].
func (k Key) Encrypt(_ context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	return k.aead.Seal(nil, nil, plaintext, ec.Bytes()), nil
}

// Decrypt implements [kmsencrypted.Provider].
func (k Key) Decrypt(_ context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	return k.aead.Open(nil, nil, ciphertext, ec.Bytes())
}

// GCM returns AES-GCM with random nonces.
func GCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// Random returns n random bytes.
func Random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
