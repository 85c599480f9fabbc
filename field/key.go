package field

import (
	"database/sql/driver"

	"github.com/kmsencrypted/kmsencrypted"
)

// Key is the column that holds the wrapped data key of a record, by convention
// "encrypted_kms_key". [Model.Seal] fills it, reading a record loads it.
//
// A Key keeps the data key open from the time the record is opened or sealed,
// so that changing a field afterwards makes no call to the key service;
// [Key.Wipe] ends that. It prints as "[redacted]". A copy is independent.
type Key struct {
	redacted
	h        head
	dataKey  kmsencrypted.DataKey // zero while closed
	rekeyed  bool                 // by Rekey, and not written since
	checked  bool                 // the record seal was, or the record was sealed since it was read
	replaces bool                 // the data key that the row has, which was not opened; not written since
	placed   *placed              // where the wrap is; nil if unknown, or if it cannot change
	was      companions           // the columns that the context is made of; nil if there are none
	// inserted: the row is this process's own, and nobody confirmed it yet.
	inserted *inserted
}

// Version returns the version of the column, and false if there is none yet.
// Columns from before kms_encrypted 1.0 count as version 1.
func (k Key) Version() (int, bool) {
	if !k.h.ciphertext() {
		return 0, false
	}
	return kmsencrypted.ColumnVersion(k.h.stored.text), true
}

// IsNull reports whether the record was read and has no data key.
func (k Key) IsNull() bool { return k.h.state == null }

// IsOpen reports whether the data key is in memory.
func (k Key) IsOpen() bool { return !k.dataKey.IsZero() }

// Wipe overwrites the data key in memory, also that of copies of k. Opened
// fields stay opened; what needs the key next unwraps it again.
func (k *Key) Wipe() {
	k.dataKey.Wipe()
	k.dataKey = kmsencrypted.DataKey{}
}

// Scan takes the column from the database; it implements [sql.Scanner].
func (k *Key) Scan(src any) error {
	*k = Key{}
	return k.h.scan(src)
}

// Value gives the column to the database; it implements [driver.Valuer]. A key
// that was neither read nor made is [kmsencrypted.ErrNotLoaded].
func (k Key) Value() (driver.Value, error) {
	if k.h.state == unset {
		return nil, kmsencrypted.ErrNotLoaded
	}
	return k.h.stored.value(), nil
}

// store puts the text of a wrapped key in place.
func (k *Key) store(column string) {
	k.h.state, k.h.stored, k.h.filled = closed, stored{text: column}, false
}
