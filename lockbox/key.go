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

// KeySize is the size in bytes of the key of a box and of a master key.
const KeySize = 32

// ParseKey decodes a key written as text: exactly 64 hex digits in either case. It returns
// [kmsencrypted.ErrConfig] for anything else, including 32 characters of text: pass a key
// of 32 bytes as a []byte, so that the two forms cannot be confused.
func ParseKey(text string) ([]byte, error) { return parseHex(text, KeySize) }

// ParseHybridKey is like [ParseKey] for the keys of the hybrid algorithm: 128 hex digits
// for 64 bytes.
func ParseHybridKey(text string) ([]byte, error) { return parseHex(text, HybridKeySize) }

func parseHex(text string, size int) ([]byte, error) {
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != size {
		return nil, configError("a key as text has %d hex digits", 2*size)
	}
	return key, nil
}

// MasterKey is Lockbox's master key. Attributes are never sealed under it, so [New] does
// not accept it; [MasterKey.AttributeKey] derives their keys. It prints as "[redacted]"
// and is safe for concurrent use. The zero value holds no key.
type MasterKey struct {
	secret.Redacted
	hidden secret.Pointer[[KeySize]byte]
}

// NewMasterKey returns a master key with a copy of key. It returns
// [kmsencrypted.ErrConfig] if key does not have 32 bytes.
func NewMasterKey(key []byte) (MasterKey, error) {
	if len(key) != KeySize {
		return MasterKey{}, configError("the master key has %d bytes, not %d", len(key), KeySize)
	}
	return MasterKey{hidden: secret.Hide([KeySize]byte(key))}, nil
}

// ParseMasterKey parses a master key in the form of [ParseKey], as in the environment
// variable LOCKBOX_MASTER_KEY.
func ParseMasterKey(text string) (MasterKey, error) {
	key, err := ParseKey(text)
	if err != nil {
		return MasterKey{}, err
	}
	defer clear(key)
	return NewMasterKey(key)
}

// AttributeKey returns the 32-byte key of one attribute. The caller may wipe it. table is
// the table of the model (for subclasses, the base table). attribute is the ciphertext
// column ("email_ciphertext"), or for files the name of the attachment or uploader
// ("license"). AttributeKey returns [kmsencrypted.ErrConfig] for an empty name and for the
// zero MasterKey.
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

// configError returns [kmsencrypted.ErrConfig] with a reason.
func configError(format string, args ...any) error {
	return fmt.Errorf("lockbox: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}
