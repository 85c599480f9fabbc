package branch

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"sync"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/mac"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// The ciphertext of a value (spec/branch.md section 2):
//
//	format 1 | version 4 | salt 16 | nonce 12 | ciphertext | tag 16
const (
	format    = 1
	saltSize  = 16
	headSize  = 1 + 4 + saltSize
	overhead  = headSize + 12 + 16
	wrapLabel = "kmsencrypted/1 branch wrap"

	// What the plaintext is: the first item of the associated data.
	valueLabel = "kmsencrypted/1 branch"
	childLabel = "kmsencrypted/1 branch key"
)

// wrapsPerSalt limits the values under one salt. Random nonces allow 2^32.
const wrapsPerSalt = 1 << 20

// ciphersPerKey limits the ciphers that a key keeps ready for reading. One is about 500
// bytes; another salt costs a microsecond.
const ciphersPerKey = 64

type salt [saltSize]byte

// key is an opened branch key. It is safe for concurrent use. It prints as "[redacted]".
type key struct {
	secret.Redacted
	version uint32
	label   string // for events
	ad      []byte // associated data of values up to the context

	mu     sync.Mutex
	hidden secret.Pointer[[kmsencrypted.DataKeySize]byte] // the branch key
	wiped  bool
	ready  map[salt]cipher.AEAD // of recent reads, at most ciphersPerKey
	writer struct {
		salt salt
		aead cipher.AEAD
		left int // values until the next salt
	}
}

// newKey returns a key with a copy of raw.
func newKey(store ID, name Name, version uint32, raw []byte) *key {
	k := &key{version: version, label: name.String() + " " + decimal(version), ready: make(map[salt]cipher.AEAD)}
	k.hidden = secret.Hide([kmsencrypted.DataKeySize]byte(raw))
	k.ad = binary.BigEndian.AppendUint32(canon.Strings(valueLabel, string(store[:]), name.Parent, name.Branch), version)
	return k
}

// isKey reports whether the key has these bytes.
func (k *key) isKey(raw []byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.wiped && equal(k.hidden.Get()[:], raw)
}

func (k *key) isWiped() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wiped
}

// wipe overwrites the key. The expanded keys of ciphers stay in memory until they are
// collected, because Go cannot overwrite them.
func (k *key) wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wiped = true
	clear(k.hidden.Get()[:])
	clear(k.ready)
	k.writer.aead = nil
}

// seal returns the ciphertext of plaintext. The error is [kmsencrypted.ErrWiped].
func (k *key) seal(plaintext []byte, child bool, ec kmsencrypted.BoundContext) ([]byte, error) {
	s, aead, err := k.forWriting()
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, overhead+len(plaintext))
	out = append(out, format)
	out = binary.BigEndian.AppendUint32(out, k.version)
	out = append(out, s[:]...)
	var stack [usualAD]byte
	return aead.Seal(out, nil, plaintext, k.appendAD(stack[:0], child, ec)), nil
}

// open opens a ciphertext of this version. The error is [kmsencrypted.ErrDecrypt] or
// [kmsencrypted.ErrWiped].
func (k *key) open(ciphertext []byte, child bool, ec kmsencrypted.BoundContext) ([]byte, error) {
	aead, err := k.forReading(salt(ciphertext[headSize-saltSize : headSize]))
	if err != nil {
		return nil, err
	}
	var stack [usualAD]byte
	plaintext, err := aead.Open(nil, nil, ciphertext[headSize:], k.appendAD(stack[:0], child, ec))
	if err != nil {
		return nil, kmsencrypted.ErrDecrypt
	}
	return plaintext, nil
}

// usualAD is the size in bytes of associated data that usually suffices.
const usualAD = 256

func (k *key) appendAD(ad []byte, child bool, ec kmsencrypted.BoundContext) []byte {
	if child {
		ad = canon.AppendString(ad, childLabel)
		ad = append(ad, k.ad[4+len(valueLabel):]...)
	} else {
		ad = append(ad, k.ad...)
	}
	if ec.Absent() {
		return append(ad, 0)
	}
	return canon.AppendString(append(ad, 1), ec.String())
}

// versionOf returns the version of the branch key that made a ciphertext, and false for
// anything that is none.
func versionOf(ciphertext []byte) (version uint32, ok bool) {
	if len(ciphertext) < overhead || ciphertext[0] != format {
		return 0, false
	}
	version = binary.BigEndian.Uint32(ciphertext[1:])
	return version, version > 0
}

func (k *key) forWriting() (salt, cipher.AEAD, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wiped {
		return salt{}, nil, kmsencrypted.ErrWiped
	}
	w := &k.writer
	if w.left == 0 {
		rand.Read(w.salt[:])
		var err error
		if w.aead, err = k.derive(w.salt); err != nil {
			return salt{}, nil, err
		}
		w.left = wrapsPerSalt
	}
	w.left--
	return w.salt, w.aead, nil
}

func (k *key) forReading(s salt) (cipher.AEAD, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch aead := k.ready[s]; {
	case k.wiped:
		return nil, kmsencrypted.ErrWiped
	case aead != nil:
		return aead, nil
	case s == k.writer.salt && k.writer.aead != nil:
		return k.writer.aead, nil
	}
	aead, err := k.derive(s)
	if err != nil {
		return nil, err
	}
	if len(k.ready) == ciphersPerKey {
		for any := range k.ready { // Go's order is random
			delete(k.ready, any)
			break
		}
	}
	k.ready[s] = aead
	return aead, nil
}

// derive returns AES-256-GCM with random nonces under the wrapping key of a salt.
func (k *key) derive(s salt) (cipher.AEAD, error) {
	// The key is uniformly random, so there is nothing to extract.
	wrapping, err := mac.Expand(k.hidden.Get()[:], wrapLabel+string(s[:]), 32)
	if err != nil {
		return nil, err
	}
	defer clear(wrapping)
	block, err := aes.NewCipher(wrapping)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
