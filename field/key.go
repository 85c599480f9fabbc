package field

import (
	"database/sql/driver"

	"github.com/kmsencrypted/kmsencrypted"
)

// Key is the column with the wrapped data key of a record, by convention
// "encrypted_kms_key". [Model.Seal] fills it, and reading a record loads it.
//
// After the record was opened or sealed, a Key keeps the data key in memory, so
// that changing a field makes no call to the key service. [Key.Wipe] removes
// it. A Key prints as "[redacted]". A copy is independent.
type Key struct {
	redacted
	h        head
	dataKey  kmsencrypted.DataKey // zero while closed
	rekeyed  bool                 // by Rekey, and not written since
	checked  bool                 // the record seal was checked, or the record was sealed since it was read
	replaces bool                 // replaces the data key of the row, which was not opened; not written since
	scanned  bool                 // read, and the record was not sealed since
	placed   *placed              // where the wrap is; nil if unknown, or if it cannot change
	was      companions           // the columns that the context uses; nil if there are none
	// inserted is set while nobody has confirmed that this process's row was
	// inserted.
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

// Wipe overwrites the data key in memory, including that of copies of k. Opened
// fields stay opened. The next operation that needs the key unwraps it again.
func (k *Key) Wipe() {
	k.dataKey.Wipe()
	k.dataKey = kmsencrypted.DataKey{}
}

// Scan reads the column from the database; it implements [sql.Scanner].
func (k *Key) Scan(src any) error {
	*k = Key{scanned: true}
	return k.h.scan(src)
}

// Value returns the column for the database; it implements [driver.Valuer]. It
// returns [kmsencrypted.ErrNotLoaded] for a key that was neither read nor made.
func (k Key) Value() (driver.Value, error) {
	if k.h.state == unset {
		return nil, kmsencrypted.ErrNotLoaded
	}
	return k.h.stored.value(), nil
}

// store stores the text of a wrapped key.
func (k *Key) store(column string) {
	k.h.state, k.h.stored, k.h.filled = closed, stored{text: column}, false
}
