package files

import (
	"crypto/rand"
	"sync"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// KeySize is the size of a file key in bytes.
const KeySize = 32

// Key is the random key of one file. It prints as "[redacted]".
//
// A Key is a handle: copies share one key, and [Key.Wipe] wipes it for all of them. It
// is safe for concurrent use. The zero value fails like a wiped key, with
// [kmsencrypted.ErrWiped].
type Key struct {
	secret.Redacted
	hidden secret.Pointer[material]
}

type material struct {
	mu    sync.RWMutex // guards raw against Wipe
	raw   [KeySize]byte
	wiped bool
}

// NewKey returns a new random key. Use it for one object: a changed file needs a new
// key. The caller must wipe it.
func NewKey() Key {
	k := Key{hidden: secret.Hide(material{})}
	rand.Read(k.hidden.Get().raw[:])
	return k
}

// KeyFrom returns a key with a copy of raw. Use it for a key that was stored in
// another way than by [WrapKey]. raw must come from [Key.Raw] or be as random. KeyFrom
// returns [kmsencrypted.ErrConfig] if raw does not have [KeySize] bytes. The caller
// must wipe both raw and the key.
func KeyFrom(raw []byte) (Key, error) {
	if len(raw) != KeySize {
		return Key{}, configError("a file key has %d bytes, not %d", KeySize, len(raw))
	}
	k := Key{hidden: secret.Hide(material{})}
	copy(k.hidden.Get().raw[:], raw)
	return k, nil
}

// Raw returns a copy of the 32 bytes, for example to encrypt them with a
// [kmsencrypted.Box]. The caller must wipe the copy with clear. Raw returns
// [kmsencrypted.ErrWiped] after Wipe.
func (k Key) Raw() ([]byte, error) {
	var raw []byte
	err := k.use(func(key []byte) error {
		raw = append(raw, key...)
		return nil
	})
	return raw, err
}

// Wipe overwrites the key. Writers and readers made from it before continue to work:
// they hold a cipher, which Go cannot overwrite.
func (k Key) Wipe() {
	m := k.hidden.Get()
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.raw[:])
	m.wiped = true
}

func (k Key) use(f func(key []byte) error) error {
	m := k.hidden.Get()
	if m == nil {
		return kmsencrypted.ErrWiped
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.wiped {
		return kmsencrypted.ErrWiped
	}
	return f(m.raw[:])
}
