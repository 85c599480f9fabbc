package activerecord

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

const (
	ivSize  = 12
	tagSize = 16
)

// errDecrypt is the same whatever failed inside.
var errDecrypt = fmt.Errorf("activerecord: %w", kmsencrypted.ErrDecrypt)

// key is AES-256-GCM under one key.
type key struct {
	secret.Redacted
	id     string
	block  cipher.Block
	random cipher.AEAD // works where only approved algorithms are allowed
	raw    secret.Pointer[[KeySize]byte]
}

func newKey(raw []byte) (*key, error) {
	if len(raw) != KeySize {
		return nil, configError("a key has %d bytes, not %d", len(raw), KeySize)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, configError("%w", err)
	}
	random, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, configError("%w", err)
	}
	return &key{id: keyID(raw), block: block, random: random, raw: secret.Hide([KeySize]byte(raw))}, nil
}

// iv returns the nonce of a deterministic text. Its key is the key of the cipher, so it
// is a nonce that only equal texts share.
func (k *key) iv(plaintext []byte) []byte {
	mac := hmac.New(sha256.New, k.raw.Get()[:])
	mac.Write(plaintext)
	return mac.Sum(nil)[:ivSize]
}

// seal encrypts under a nonce, or under a random one if iv is nil.
func (k *key) seal(plaintext, iv []byte) (*message, error) {
	var sealed []byte
	if iv == nil {
		sealed = k.random.Seal(nil, nil, plaintext, nil)
		iv, sealed = sealed[:ivSize], sealed[ivSize:]
	} else {
		gcm, err := cipher.NewGCM(k.block)
		if err != nil {
			return nil, configError("%w", err)
		}
		sealed = gcm.Seal(nil, iv, plaintext, nil)
	}
	cut := len(sealed) - tagSize
	return &message{payload: sealed[:cut], headers: []header{{"iv", iv}, {"at", sealed[cut:]}}}, nil
}

// open decrypts a message. It returns errDecrypt itself if another key may open it.
func (k *key) open(m *message) ([]byte, error) {
	iv, _ := m.get("iv").([]byte)
	tag, _ := m.get("at").([]byte)
	switch {
	case m.payload == nil:
		return nil, malformed("no payload")
	case len(iv) != ivSize:
		return nil, malformed("an iv of %d bytes", len(iv))
	case len(tag) != tagSize:
		return nil, malformed("a tag of %d bytes", len(tag))
	}
	plaintext, err := k.random.Open(nil, nil, slices.Concat(iv, m.payload, tag), nil)
	if err != nil {
		return nil, errDecrypt
	}
	return plaintext, nil
}

// newDataKey returns a random key and its bytes, which the caller wipes.
func newDataKey() (*key, []byte, error) {
	raw := make([]byte, KeySize)
	rand.Read(raw)
	k, err := newKey(raw)
	return k, raw, err
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("activerecord: %w: %w", kmsencrypted.ErrMalformed, fmt.Errorf(format, args...))
}
