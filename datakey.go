package kmsencrypted

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kmsencrypted/kmsencrypted/internal/mac"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// DataKeySize is the size of a data key in bytes.
const DataKeySize = 32

// KeyTagSize is the size in bytes of the public label of a data key.
const KeyTagSize = 8

// recordLabel is the HKDF info for deriving the keys of a record's columns
// (spec/native.md section 2).
const recordLabel = "kmsencrypted/1 record"

var recordInfo = []byte(recordLabel + "\x01")

// redacted makes a type print as "[redacted]" everywhere.
type redacted = secret.Redacted

// DataKey is the random key of one record. It seals the record's columns and files,
// and is stored wrapped. It prints as "[redacted]".
//
// A DataKey is a handle: copies share one key, and [DataKey.Wipe] wipes it for all of
// them. It is safe for concurrent use. If it is wiped while another goroutine uses it,
// that use succeeds or fails with [ErrWiped]. The zero value holds no key and fails
// like a wiped one.
type DataKey struct {
	redacted
	hidden secret.Pointer[material]
}

// material is the key itself with everything derived from it.
type material struct {
	mu    sync.RWMutex // guards raw against Wipe
	raw   [DataKeySize]byte
	wiped bool

	derived atomic.Pointer[recordKeys]

	// cached is set for a key from the cache, which has no raw. Unwrapping it again returns
	// the key with its bytes.
	cached *unwrapping
}

// recordKeys are the 64 bytes that one HKDF-Expand derives from a data key for the
// native format.
type recordKeys struct {
	sealing    cipher.AEAD
	tag        [KeyTagSize]byte
	commitment [24]byte
}

// NewDataKey returns a new random data key. The caller must wipe it.
func NewDataKey() DataKey {
	var raw [DataKeySize]byte
	rand.Read(raw[:])
	defer clear(raw[:])
	return copyDataKey(raw[:])
}

// copyDataKey returns a data key with a copy of 32 bytes. The caller must wipe raw.
func copyDataKey(raw []byte) DataKey {
	k := DataKey{hidden: secret.Hide(material{})}
	copy(k.hidden.Get().raw[:], raw)
	return k
}

// clone returns a separate handle to the same key: wiping one does not wipe the other.
func (k DataKey) clone() DataKey {
	c := DataKey{hidden: secret.Hide(material{})}
	from, to := k.hidden.Get(), c.hidden.Get()
	from.mu.RLock()
	defer from.mu.RUnlock()
	to.raw, to.wiped, to.cached = from.raw, from.wiped, from.cached
	to.derived.Store(from.derived.Load())
	return c
}

// columnsKey returns a key that seals and opens columns but has no bytes. Unwrapping
// its column again returns those.
func columnsKey(keys *recordKeys, column *unwrapping) DataKey {
	k := DataKey{hidden: secret.Hide(material{})}
	m := k.hidden.Get()
	m.cached = column
	m.derived.Store(keys)
	return k
}

// Fresh returns a key that has its bytes, for [DataKey.Raw] and [DataKey.Derive]. It
// unwraps a key from the cache again, with a call to the key service and the errors of
// [Box.Unwrap], and copies any other key. The caller must wipe the result.
func (k DataKey) Fresh(ctx context.Context) (DataKey, error) {
	m := k.hidden.Get()
	if m == nil {
		return DataKey{}, ErrWiped
	}
	if err := k.use(func(*[DataKeySize]byte) {}); err == ErrCached {
		return m.cached.again(ctx)
	} else if err != nil {
		return DataKey{}, err
	}
	return k.clone(), nil
}

// IsZero reports whether k is the zero value, which holds no key.
func (k DataKey) IsZero() bool { return k.hidden.Get() == nil }

// Raw returns a copy of the 32 bytes, for the Ruby formats, which use the data key
// itself. The caller must wipe the copy with clear. Raw returns [ErrWiped] or
// [ErrCached].
func (k DataKey) Raw() ([]byte, error) {
	var raw []byte
	err := k.use(func(key *[DataKeySize]byte) { raw = append(raw, key[:]...) })
	return raw, err
}

// ownLabels is the prefix of the labels under which this module derives keys.
const ownLabels = "kmsencrypted/"

// Derive returns size bytes, 1 to 16320, for a use of their own, by
// HKDF-Expand-SHA-512 under label. Use one label for one purpose. The caller must
// wipe the result.
//
// The error is [ErrWiped] or [ErrCached], and [ErrConfig] for another size or a
// label that begins with "kmsencrypted/": this module derives its own keys under
// such labels, and no caller may get them.
func (k DataKey) Derive(label string, size int) ([]byte, error) {
	switch {
	case size < 1 || size > mac.MaxExpand:
		return nil, fmt.Errorf("kmsencrypted: derive: %w: size %d, want 1 to %d", ErrConfig, size, mac.MaxExpand)
	case strings.HasPrefix(label, ownLabels):
		return nil, fmt.Errorf("kmsencrypted: derive: %w: labels that begin with %q are reserved", ErrConfig, ownLabels)
	}
	var out []byte
	var derr error
	// The data key is uniformly random, so there is nothing to extract.
	err := k.use(func(key *[DataKeySize]byte) { out, derr = mac.Expand(key[:], label, size) })
	if err != nil {
		return nil, err
	}
	return out, derr
}

// Cipher returns the AES-256-GCM of the native format under the key derived for it.
// The cipher makes random nonces, which are part of the ciphertext: pass nil as nonce.
// Cipher returns [ErrWiped] for a wiped key.
func (k DataKey) Cipher() (cipher.AEAD, error) {
	keys, err := k.record()
	if err != nil {
		return nil, err
	}
	return keys.sealing, nil
}

// Tag returns the public label of the key, which every value sealed under it carries.
// It distinguishes keys but proves nothing; it is not the commitment. Tag returns
// [ErrWiped] for a wiped key.
func (k DataKey) Tag() ([KeyTagSize]byte, error) {
	keys, err := k.record()
	if err != nil {
		return [KeyTagSize]byte{}, err
	}
	return keys.tag, nil
}

// Equal reports whether two handles hold the same key. A wiped key equals no other.
func (k DataKey) Equal(other DataKey) bool {
	a, errA := k.record()
	b, errB := other.record()
	// Both values are derived only for this comparison. Neither reveals the key.
	return errA == nil && errB == nil && a.tag == b.tag && a.commitment == b.commitment
}

// Wipe overwrites the key and drops everything derived from it. The expanded key of a
// cipher that was returned before stays in memory until it is collected, because Go
// cannot overwrite it.
func (k DataKey) Wipe() {
	m := k.hidden.Get()
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.raw[:])
	m.wiped = true
	m.derived.Store(nil)
}

// freshRaw is like [DataKey.Raw], but unwraps a key from the cache again.
func (k DataKey) freshRaw(ctx context.Context) ([]byte, error) {
	raw, err := k.Raw()
	if err != ErrCached {
		return raw, err
	}
	fresh, err := k.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	defer fresh.Wipe()
	return fresh.Raw()
}

func (k DataKey) use(f func(key *[DataKeySize]byte)) error {
	m := k.hidden.Get()
	if m == nil {
		return ErrWiped
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	switch {
	case m.wiped:
		return ErrWiped
	case m.cached != nil:
		return ErrCached
	}
	f(&m.raw)
	return nil
}

// record returns the derived keys and derives them the first time. Keys of Ruby
// records never need them.
func (k DataKey) record() (*recordKeys, error) {
	m := k.hidden.Get()
	if m == nil {
		return nil, ErrWiped
	}
	if keys := m.derived.Load(); keys != nil {
		return keys, nil
	}
	var keys *recordKeys
	var derr error
	if err := k.use(func(key *[DataKeySize]byte) {
		if keys, derr = deriveRecordKeys(key); derr == nil {
			m.derived.Store(keys)
		}
	}); err != nil {
		return nil, err
	}
	return keys, derr
}

func deriveRecordKeys(key *[DataKeySize]byte) (*recordKeys, error) {
	keys := new(recordKeys)
	const sealingSize = 32
	// HKDF-Expand of exactly one block is HMAC(key, info || 1).
	okm := mac.SHA512(key[:], recordInfo)
	defer clear(okm[:])
	var err error
	if keys.sealing, err = newGCM(okm[:sealingSize]); err != nil {
		return nil, err
	}
	copy(keys.tag[:], okm[sealingSize:])
	copy(keys.commitment[:], okm[sealingSize+KeyTagSize:])
	return keys, nil
}

// newGCM returns AES-256-GCM with random nonces, which GODEBUG=fips140=only requires.
func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
