package kmsencrypted

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// DataKeySize is the size of a data key in bytes.
const DataKeySize = 32

// KeyTagSize is the size in bytes of the public label of a data key.
const KeyTagSize = 8

// recordLabel is the HKDF info under which the keys of a record's columns are
// derived (spec/native.md section 2).
const recordLabel = "kmsencrypted/1 record"

// redacted makes a type print as "[redacted]" everywhere.
type redacted = secret.Redacted

// DataKey is the random key of one record: it seals the record's columns and
// files, and is itself stored wrapped. It prints as "[redacted]".
//
// A DataKey is a handle: copies share one key, and [DataKey.Wipe] ends them all.
// It is safe for concurrent use; wiping while another goroutine uses the key
// makes that use fail with [ErrWiped] or succeed, nothing else. The zero value
// is no key and fails like a wiped one.
type DataKey struct {
	redacted
	m *material
}

// material is the key itself with what was derived from it.
type material struct {
	mu    sync.RWMutex // guards raw against Wipe
	raw   [DataKeySize]byte
	wiped bool

	derived atomic.Pointer[recordKeys]
}

// recordKeys are the 64 bytes that one HKDF-Expand makes of a data key for the
// native format.
type recordKeys struct {
	sealing    cipher.AEAD
	tag        [KeyTagSize]byte
	commitment [24]byte
}

// NewDataKey makes a random data key.
func NewDataKey() DataKey {
	m := new(material)
	rand.Read(m.raw[:])
	return DataKey{m: m}
}

// dataKeyFrom takes the bytes that a provider unwrapped and wipes them.
func dataKeyFrom(raw []byte) (DataKey, error) {
	defer clear(raw)
	if len(raw) != DataKeySize {
		return DataKey{}, fmt.Errorf("%w: data key of %d bytes, want %d", ErrMalformed, len(raw), DataKeySize)
	}
	m := new(material)
	copy(m.raw[:], raw)
	return DataKey{m: m}, nil
}

// IsZero reports whether k is the zero value, no key at all.
func (k DataKey) IsZero() bool { return k.m == nil }

// Raw returns a copy of the 32 bytes, for the Ruby formats, which use the data
// key itself. The caller wipes it with clear. The error is [ErrWiped].
func (k DataKey) Raw() ([]byte, error) {
	var raw []byte
	err := k.use(func(key *[DataKeySize]byte) { raw = append(raw, key[:]...) })
	return raw, err
}

// Derive returns size bytes (at most 16320) for a use of their own, by
// HKDF-Expand-SHA-512 under label. One label serves one use; labels that begin
// with "kmsencrypted/" are this module's. The caller wipes the result. The error is [ErrWiped].
func (k DataKey) Derive(label string, size int) ([]byte, error) {
	var out []byte
	var derr error
	err := k.use(func(key *[DataKeySize]byte) {
		// The data key is uniformly random, so there is nothing to extract.
		out, derr = hkdf.Expand(sha512.New, key[:], label, size)
	})
	if err != nil {
		return nil, err
	}
	return out, derr
}

// Cipher returns the AES-256-GCM of the native format under the key derived for
// it. Its nonces are random and part of the ciphertext: pass nil as nonce. The error is [ErrWiped].
func (k DataKey) Cipher() (cipher.AEAD, error) {
	keys, err := k.record()
	if err != nil {
		return nil, err
	}
	return keys.sealing, nil
}

// Tag returns the public label of the key, which every value sealed under it
// carries. It is not the commitment: it tells keys apart, it proves nothing. The error is [ErrWiped].
func (k DataKey) Tag() ([KeyTagSize]byte, error) {
	keys, err := k.record()
	if err != nil {
		return [KeyTagSize]byte{}, err
	}
	return keys.tag, nil
}

// Equal reports whether two handles hold the same key. A wiped key equals none.
func (k DataKey) Equal(other DataKey) bool {
	a, errA := k.record()
	b, errB := other.record()
	// Both values are derived for this comparison only; neither reveals the key.
	return errA == nil && errB == nil && a.tag == b.tag && a.commitment == b.commitment
}

// Wipe overwrites the key and drops what was derived from it. The expanded key
// of a cipher that was handed out before lives until it is collected: Go offers
// no way to overwrite it.
func (k DataKey) Wipe() {
	if k.m == nil {
		return
	}
	k.m.mu.Lock()
	defer k.m.mu.Unlock()
	clear(k.m.raw[:])
	k.m.wiped = true
	k.m.derived.Store(nil)
}

func (k DataKey) use(f func(key *[DataKeySize]byte)) error {
	if k.m == nil {
		return ErrWiped
	}
	k.m.mu.RLock()
	defer k.m.mu.RUnlock()
	if k.m.wiped {
		return ErrWiped
	}
	f(&k.m.raw)
	return nil
}

// record returns the derived keys, deriving them the first time: keys of Ruby
// records never need them.
func (k DataKey) record() (*recordKeys, error) {
	if k.m == nil {
		return nil, ErrWiped
	}
	if keys := k.m.derived.Load(); keys != nil {
		return keys, nil
	}
	var keys *recordKeys
	var derr error
	if err := k.use(func(key *[DataKeySize]byte) {
		if keys, derr = deriveRecordKeys(key); derr == nil {
			k.m.derived.Store(keys)
		}
	}); err != nil {
		return nil, err
	}
	return keys, derr
}

func deriveRecordKeys(key *[DataKeySize]byte) (*recordKeys, error) {
	keys := new(recordKeys)
	const sealingSize = 32
	okm, err := hkdf.Expand(sha512.New, key[:], recordLabel, sealingSize+KeyTagSize+len(keys.commitment))
	if err != nil {
		return nil, err
	}
	defer clear(okm)
	block, err := aes.NewCipher(okm[:sealingSize])
	if err != nil {
		return nil, err
	}
	if keys.sealing, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, err
	}
	copy(keys.tag[:], okm[sealingSize:])
	copy(keys.commitment[:], okm[sealingSize+KeyTagSize:])
	return keys, nil
}
