package lockbox

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha512"
	"encoding/hex"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// KeySize is the size in bytes of a key of a box and of a master key.
const KeySize = 32

// ParseKey decodes a key written as text: exactly 64 hex digits in either case.
// Anything else is [kmsencrypted.ErrConfig], above all 32 characters of text: a
// key of 32 bytes is a []byte, so that the two forms cannot be mixed up.
func ParseKey(text string) ([]byte, error) { return parseHex(text, KeySize) }

// ParseHybridKey is [ParseKey] for the keys of the hybrid algorithm, which have
// 128 hex digits for 64 bytes.
func ParseHybridKey(text string) ([]byte, error) { return parseHex(text, HybridKeySize) }

func parseHex(text string, size int) ([]byte, error) {
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != size {
		return nil, configError("a key as text has %d hex digits", 2*size)
	}
	return key, nil
}

// MasterKey is Lockbox's master key. Attributes are never sealed under it, so it
// cannot be given to [New]: [MasterKey.AttributeKey] derives their keys. It
// prints as "[redacted]" and is safe for concurrent use. The zero value is no key.
type MasterKey struct {
	secret.Redacted
	hidden secret.Pointer[[KeySize]byte]
}

// NewMasterKey copies a master key of 32 bytes. Another size is [kmsencrypted.ErrConfig].
func NewMasterKey(key []byte) (MasterKey, error) {
	if len(key) != KeySize {
		return MasterKey{}, configError("the master key has %d bytes, not %d", len(key), KeySize)
	}
	return MasterKey{hidden: secret.Hide([KeySize]byte(key))}, nil
}

// ParseMasterKey reads a master key in the form of [ParseKey], which is the form
// of the environment variable LOCKBOX_MASTER_KEY.
func ParseMasterKey(text string) (MasterKey, error) {
	key, err := ParseKey(text)
	if err != nil {
		return MasterKey{}, err
	}
	defer clear(key)
	return NewMasterKey(key)
}

// AttributeKey returns the 32-byte key of one attribute, which the caller may
// wipe. The table is the model's (of subclasses, the base table); the attribute
// is the ciphertext column ("email_ciphertext"), or for files the name of the
// attachment or uploader ("license"). An empty name and the zero MasterKey are
// [kmsencrypted.ErrConfig].
//
//	key = HKDF-SHA384(secret = master key, salt = table, info = 32 × b4 || attribute)
func (m MasterKey) AttributeKey(table, attribute string) ([]byte, error) {
	master := m.hidden.Get()
	switch {
	case master == nil:
		return nil, configError("no master key")
	case table == "" || attribute == "":
		return nil, configError("table and attribute of a key need names")
	}
	info := string(bytes.Repeat([]byte{0xb4}, 32)) + attribute
	key, err := hkdf.Key(sha512.New384, master[:], []byte(table), info, KeySize)
	if err != nil {
		return nil, configError("%w", err)
	}
	return key, nil
}

// configError is [kmsencrypted.ErrConfig] with what is wrong.
func configError(format string, args ...any) error {
	return fmt.Errorf("lockbox: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}
