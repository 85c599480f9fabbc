package field

import "github.com/kmsencrypted/kmsencrypted"

// Rotated is a record that was rekeyed or rewrapped, for what lies under its data
// key elsewhere.
type Rotated struct {
	ID []string // as [Adapter.ID]
	// Old and New are the data keys before and after a rekey; Old is zero if the
	// record had none. A rewrap keeps the data key, and both are zero.
	Old, New kmsencrypted.DataKey
}
