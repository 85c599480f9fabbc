package kmstest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
)

// Memory returns a key service in memory, with a key of its own that ends with
// the program. Unlike the insecure test key it encrypts, and it may stand beside
// real keys in a configuration. A Box shares calls to it as it does those to a
// service behind a network: it is no [kmsencrypted.InMemory].
func Memory() kmsencrypted.Provider {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // not with 32 bytes
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // not with AES
	}
	return &memory{aead, "memory:" + rand.Text()}
}

type memory struct {
	aead  cipher.AEAD
	keyID string
}

func (m *memory) Info() kmsencrypted.KeyInfo {
	return kmsencrypted.KeyInfo{Provider: "memory", KeyID: m.keyID, Tag: "memory"}
}

func (m *memory) Probe(ctx context.Context) error { return ctx.Err() }

func (m *memory) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m.aead.Seal(nil, nil, plaintext, associatedData(ec)), nil
}

func (m *memory) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	plaintext, err := m.aead.Open(nil, nil, ciphertext, associatedData(ec))
	if err != nil {
		return nil, &kmsencrypted.Error{Op: string(kmsencrypted.OpUnwrap), Provider: "memory", KeyID: m.keyID, Err: kmsencrypted.ErrDecrypt}
	}
	return plaintext, nil
}

// associatedData tells an absent context from an empty one.
func associatedData(ec kmsencrypted.BoundContext) []byte {
	if ec.Absent() {
		return nil
	}
	return canon.AppendBytes(nil, ec.Bytes())
}

// Batches returns a provider that also takes batches of up to size values, as
// Vault does. What else the provider can do is not seen through it.
func Batches(provider kmsencrypted.Provider, size int) kmsencrypted.BatchProvider {
	return &batches{provider, size}
}

type batches struct {
	kmsencrypted.Provider
	size int
}

func (b *batches) BatchSize() int { return b.size }

func (b *batches) EncryptBatch(ctx context.Context, items []kmsencrypted.Plain) ([]kmsencrypted.Result, error) {
	results := make([]kmsencrypted.Result, len(items))
	for i, item := range items {
		results[i].Bytes, results[i].Err = b.Encrypt(ctx, item.Plaintext(), item.Context)
	}
	return results, nil
}

func (b *batches) DecryptBatch(ctx context.Context, items []kmsencrypted.Wrapped) ([]kmsencrypted.Result, error) {
	results := make([]kmsencrypted.Result, len(items))
	for i, item := range items {
		results[i].Bytes, results[i].Err = b.Decrypt(ctx, item.Ciphertext, item.Context)
	}
	return results, nil
}
