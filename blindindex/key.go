package blindindex

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// KeySize is the size in bytes of an index key and of a master key.
const KeySize = 32

// ParseKey decodes a key written as text: exactly 64 hex digits in either case.
// Anything else is [kmsencrypted.ErrConfig], above all 32 characters of text:
// bytes of a key are a []byte, so that the two forms cannot be mixed up.
func ParseKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != KeySize {
		return nil, fmt.Errorf("blindindex: %w: a key as text has 64 hex digits", kmsencrypted.ErrConfig)
	}
	return key, nil
}

// MasterKey is the key that those of indexes are derived from. It prints as
// "[redacted]" and is safe for concurrent use. The zero value is no key.
type MasterKey struct {
	secret.Redacted
	hidden secret.Pointer[[KeySize]byte]
}

// NewMasterKey copies a master key of 32 bytes. Another size is [kmsencrypted.ErrConfig].
func NewMasterKey(key []byte) (MasterKey, error) {
	if len(key) != KeySize {
		return MasterKey{}, fmt.Errorf("blindindex: %w: the master key has %d bytes, not %d", kmsencrypted.ErrConfig, len(key), KeySize)
	}
	return MasterKey{hidden: secret.Hide([KeySize]byte(key))}, nil
}

// ParseMasterKey reads a master key in the form of [ParseKey].
func ParseMasterKey(text string) (MasterKey, error) {
	key, err := ParseKey(text)
	if err != nil {
		return MasterKey{}, err
	}
	defer clear(key)
	return NewMasterKey(key)
}

// MasterKeyFromEnv reads the master key where a Ruby process finds it: in the
// environment variable BLIND_INDEX_MASTER_KEY, else in LOCKBOX_MASTER_KEY. The
// form is that of [ParseKey]; no key at all is [kmsencrypted.ErrConfig].
func MasterKeyFromEnv() (MasterKey, error) {
	for _, name := range []string{"BLIND_INDEX_MASTER_KEY", "LOCKBOX_MASTER_KEY"} {
		if text, ok := os.LookupEnv(name); ok {
			return ParseMasterKey(text)
		}
	}
	return MasterKey{}, fmt.Errorf("blindindex: %w: set BLIND_INDEX_MASTER_KEY", kmsencrypted.ErrConfig)
}

// IsZero reports whether m is no key.
func (m MasterKey) IsZero() bool { return m.hidden.Get() == nil }

// IndexKey returns the 32-byte key of one index, that of a column of a table,
// which the caller may wipe. It is blind_index's BlindIndex.index_key with table
// and bidx_attribute; the column is that of the index ("email_bidx"), not that of
// the value. An empty name and the zero MasterKey are [kmsencrypted.ErrConfig].
//
//	root = HKDF-SHA384(secret = master key, salt = table, info = 32 × 7e || column)
//	key  = HMAC-SHA256(root, uint32 LE 3 || for each of table, column, column: uint64 LE length || bytes)
func (m MasterKey) IndexKey(table, column string) ([]byte, error) {
	if m.IsZero() {
		return nil, fmt.Errorf("blindindex: %w: no master key", kmsencrypted.ErrConfig)
	}
	if table == "" || column == "" {
		return nil, fmt.Errorf("blindindex: %w: table and column of an index need names", kmsencrypted.ErrConfig)
	}
	info := string(bytes.Repeat([]byte{0x7e}, 32)) + column
	root, err := hkdf.Key(sha512.New384, m.hidden.Get()[:], []byte(table), info, KeySize)
	if err != nil {
		return nil, fmt.Errorf("blindindex: %w: %w", kmsencrypted.ErrConfig, err)
	}
	message := binary.LittleEndian.AppendUint32(nil, 3)
	for _, name := range []string{table, column, column} {
		message = binary.LittleEndian.AppendUint64(message, uint64(len(name)))
		message = append(message, name...)
	}
	return hmacSHA256(root, message), nil
}

// ColumnName is the column that blind_index uses for an index on an attribute:
// "email_bidx" for version 1, "email_bidx_v2" for version 2 and so on. Indexes
// declared legacy put "encrypted_" before it. The name goes into the key, so
// each version has a key of its own even under the same master key.
func ColumnName(attribute string, version int, legacy bool) string {
	name := attribute + "_bidx"
	if legacy {
		name = "encrypted_" + name
	}
	if version != 1 {
		name = fmt.Sprintf("%s_v%d", name, version)
	}
	return name
}

// partitionKey is the key under which a partition's values are hashed.
// Partition 0 has the key of the index itself, so a value can be given more
// partitions later and is still found where it was written before.
//
//	key of partition i > 0 = HMAC-SHA256(key, "kmsencrypted blind index partition" || uint32 BE i)
func partitionKey(key []byte, partition int) []byte {
	if partition == 0 {
		return key
	}
	label := []byte("kmsencrypted blind index partition")
	return hmacSHA256(key, binary.BigEndian.AppendUint32(label, uint32(partition)))
}

func hmacSHA256(key, message []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(message)
	return mac.Sum(nil)
}
