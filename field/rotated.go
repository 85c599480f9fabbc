package field

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// Dependents are what lies in other tables under the data keys of the records: a
// manager of attached files (package files/attach) is one.
type Dependents interface {
	// KeyColumn is the key column whose data keys count.
	KeyColumn() string
	// Covers reports whether these are the rows of that table which belong to the
	// records. A rekey does not begin while kms_attachments or
	// active_storage_attachments has rows of the table that nobody covers.
	Covers(table string) bool
	// Rotated moves what belongs to records that were just written, in the same
	// transaction: after a rekey from the old data keys to the new ones; after a
	// rewrap, which leaves data keys inside the key service and so has none to give,
	// what names the old version itself. What cannot be
	// moved is [Failures] by the index of the record; the transaction is then
	// made again without these records. Any other error ends the run. The keys are
	// wiped afterwards.
	Rotated(ctx context.Context, tx *sql.Tx, records []Rotated) error
}

// Rotated describes a rekeyed or rewrapped record to code that keeps other data
// under its data key, such as attached files.
type Rotated struct {
	ID []string // as [Adapter.ID]
	// Old and New are the data keys before and after a rekey; Old is zero if the
	// record had none. A rewrap keeps the data key, and both are zero.
	Old, New kmsencrypted.DataKey
}

// Divided are [Dependents] that leave a part of what they cover to others, whose data
// keys are in another key column.
type Divided interface {
	Dependents
	// Divides returns the names of what these move, and of what they leave to others.
	Divides() (names, elsewhere []string)
}

// CheckDivided returns [kmsencrypted.ErrConfig] if Dependents leave something to others
// that are not in the list: a rekey would lose it.
func CheckDivided(list []Dependents) error {
	var moved, left []string
	for _, d := range list {
		if divided, ok := d.(Divided); ok {
			names, elsewhere := divided.Divides()
			moved, left = append(moved, names...), append(left, elsewhere...)
		}
	}
	for _, name := range left {
		if !slices.Contains(moved, name) {
			return fmt.Errorf("%w: no manager for the attachment %q, which another leaves to it", kmsencrypted.ErrConfig, name)
		}
	}
	return nil
}
