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

// ParseKey decodes a key written as text: exactly 64 hex digits in either case. It
// returns [kmsencrypted.ErrConfig] for anything else, including 32 characters of
// text: pass the bytes of a key as a []byte, so that the two forms cannot be
// confused.
func ParseKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != KeySize {
		return nil, fmt.Errorf("blindindex: %w: a key as text has 64 hex digits", kmsencrypted.ErrConfig)
	}
	return key, nil
}

// MasterKey is the key that index keys are derived from. It prints as "[redacted]"
// and is safe for concurrent use. The zero value holds no key.
type MasterKey struct {
	secret.Redacted
	hidden secret.Pointer[[KeySize]byte]
}

// NewMasterKey returns a master key with a copy of key. It returns
// [kmsencrypted.ErrConfig] if key does not have 32 bytes.
func NewMasterKey(key []byte) (MasterKey, error) {
	if len(key) != KeySize {
		return MasterKey{}, fmt.Errorf("blindindex: %w: the master key has %d bytes, not %d", kmsencrypted.ErrConfig, len(key), KeySize)
	}
	return MasterKey{hidden: secret.Hide([KeySize]byte(key))}, nil
}

// ParseMasterKey parses a master key in the form of [ParseKey].
func ParseMasterKey(text string) (MasterKey, error) {
	key, err := ParseKey(text)
	if err != nil {
		return MasterKey{}, err
	}
	defer clear(key)
	return NewMasterKey(key)
}

// MasterKeyFromEnv reads the master key from the environment variable that Ruby
// uses: BLIND_INDEX_MASTER_KEY, or else LOCKBOX_MASTER_KEY. The form is that of
// [ParseKey]. MasterKeyFromEnv returns [kmsencrypted.ErrConfig] if neither is set.
func MasterKeyFromEnv() (MasterKey, error) {
	for _, name := range []string{"BLIND_INDEX_MASTER_KEY", "LOCKBOX_MASTER_KEY"} {
		if text, ok := os.LookupEnv(name); ok {
			return ParseMasterKey(text)
		}
	}
	return MasterKey{}, fmt.Errorf("blindindex: %w: set BLIND_INDEX_MASTER_KEY", kmsencrypted.ErrConfig)
}

// IsZero reports whether m holds no key.
func (m MasterKey) IsZero() bool { return m.hidden.Get() == nil }

// IndexKey returns the 32-byte key of the index on a column of a table. The caller
// may wipe it. It equals BlindIndex.index_key of blind_index with table and
// bidx_attribute. column is the name of the index column ("email_bidx"), not of
// the value's column. IndexKey returns [kmsencrypted.ErrConfig] for an empty name
// and for the zero MasterKey.
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

// ColumnName returns the column that blind_index uses for an index on an
// attribute: "email_bidx" for version 1, "email_bidx_v2" for version 2 and so on.
// Indexes declared legacy have the prefix "encrypted_". The key is derived from
// the name, so each version has a key of its own even under the same master key.
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

// partitionKey returns the key that hashes the values of a partition. Partition 0
// uses the key of the index itself, so a value that gets more partitions later is
// still found where it was written before.
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
