package attach

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
)

// A primary key may be given to another record once its record is deleted. What tells
// the two apart is the data key. Its name, the record key, is the commitment in the key
// column, which a process knows that may not decrypt.

// errEarlierRecord reports a file of a record that was deleted.
var errEarlierRecord = fmt.Errorf("attach: the file belongs to an earlier record with the same primary key, or was moved: %w", kmsencrypted.ErrDecrypt)

// isRecordKey reports whether a text has the form of a record key.
func isRecordKey(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == 32 && hex.EncodeToString(raw) == text
}

// recordKey returns the record key of a record: 64 digits, or nothing if it has no data
// key or its key column no commitment, as under a Ruby version.
func (m *Manager[R]) recordKey(row *R) (string, error) {
	column, err := keyText(m.model.Key(m.key, row))
	if err != nil || column == "" {
		return "", err
	}
	commitment, err := m.model.Box().Commitment(column)
	if err != nil || commitment == [32]byte{} {
		return "", err
	}
	return hex.EncodeToString(commitment[:]), nil
}

// owns reports whether a record key is one of this record's data key. data is the data
// key that counts, which differs from the record's in a rekey; zero means the record's.
func (m *Manager[R]) owns(ctx context.Context, row *R, data kmsencrypted.DataKey, record string) (bool, error) {
	if record == "" {
		return false, nil
	}
	if is, err := m.recordKey(row); err != nil || is == record {
		return err == nil, err
	}
	// The commitment also changes in a rewrap to a version that binds something else, so
	// ask the data key.
	if data.IsZero() {
		keys, err := m.model.DataKeys(ctx, m.key, row)
		if err != nil {
			return false, err
		}
		data = keys[0]
		defer data.Wipe()
	}
	raw, err := hex.DecodeString(record)
	if err != nil || len(raw) != 32 || data.IsZero() {
		return false, nil
	}
	return m.model.Box().Committed([32]byte(raw), data, m.model.Binding(m.key, row))
}
