package activerecord

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"sync"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// KeySize is the size in bytes of a key of [RawKey].
const KeySize = 32

// Digest is the hash of PBKDF2, hash_digest_class in Rails.
type Digest string

// The digests. Rails 7.1 and newer use SHA256 with load_defaults 7.1, and SHA1 with
// older ones. For Rails 7.0 see [Config.PrimaryDigest].
const (
	SHA1   Digest = "SHA1"
	SHA256 Digest = "SHA256" // the default
	SHA512 Digest = "SHA512"
)

var digests = map[Digest]func() hash.Hash{"": sha256.New, SHA1: sha1.New, SHA256: sha256.New, SHA512: sha512.New}

// rounds of PBKDF2. Rails has no setting for it.
const rounds = 1 << 16

// Key is a password that a key is derived from, or a key itself. It prints as
// "[redacted]". The zero Key is none.
type Key struct {
	secret.Redacted
	hidden secret.Pointer[keyText]
}

type keyText struct {
	text   string
	raw    bool
	digest Digest // if not that of the configuration
}

// Password returns a key that is derived from a text, as it stands in Rails'
// configuration: primary_key, deterministic_key, or key: of an attribute. The text is
// used as it is, although it may look like base64. The empty text is no key.
func Password(text string) Key {
	if text == "" {
		return Key{}
	}
	return Key{hidden: secret.Hide(keyText{text: text})}
}

// Passwords returns a key for each text, for a list of keys. Empty texts are left out.
func Passwords(texts ...string) (keys []Key) {
	for _, text := range texts {
		if text != "" {
			keys = append(keys, Password(text))
		}
	}
	return keys
}

// RawKey returns a key of 32 bytes that is used as it is, as a KeyProvider of Rails has
// it. A key of another size is refused where it is used.
func RawKey(key []byte) Key { return Key{hidden: secret.Hide(keyText{text: string(key), raw: true})} }

// With returns the password under another digest than that of the configuration.
func (k Key) With(d Digest) Key {
	if k.IsZero() {
		return k
	}
	text := *k.hidden.Get()
	text.digest = d
	return Key{hidden: secret.Hide(text)}
}

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.hidden.Get() == nil }

// deriver derives each key once, because that is slow on purpose.
type deriver struct {
	salt string
	mu   sync.Mutex
	done map[keyText]*key
}

// derive returns the key of a password under the digest, unless it has its own.
func (d *deriver) derive(k Key, digest Digest) (*key, error) {
	if k.IsZero() {
		return nil, configError("an empty key")
	}
	text := *k.hidden.Get()
	if text.raw {
		return newKey([]byte(text.text))
	}
	if text.digest == "" {
		text.digest = digest
	}
	newHash, ok := digests[text.digest]
	switch {
	case !ok:
		return nil, configError("unknown digest %q", text.digest)
	case d.salt == "":
		return nil, configError("a key that is derived needs Config.Salt (key_derivation_salt)")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if k, ok := d.done[text]; ok {
		return k, nil
	}
	raw, err := pbkdf2.Key(newHash, text.text, []byte(d.salt), rounds, KeySize)
	if err != nil {
		return nil, configError("%w", err)
	}
	defer clear(raw)
	derived, err := newKey(raw)
	if err == nil {
		d.done[text] = derived
	}
	return derived, err
}

func (d *deriver) deriveAll(keys []Key, digest Digest) (derived []*key, err error) {
	for _, k := range keys {
		key, err := d.derive(k, digest)
		if err != nil {
			return nil, err
		}
		derived = append(derived, key)
	}
	return derived, nil
}

// keyID is the reference to a key in a message: 16 bits of its SHA-1.
func keyID(raw []byte) string {
	sum := sha1.Sum(raw)
	return hex.EncodeToString(sum[:2])
}

func configError(format string, args ...any) error {
	return fmt.Errorf("activerecord: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}
