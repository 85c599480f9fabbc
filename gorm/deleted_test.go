package kmsgorm_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// A record that was read and deleted since is not inserted again, also under a new
// data key.
func TestSaveOfADeletedRecordUnderANewKey(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	read := d.read(c.ID)
	d.must(d.customers.Rekey(t.Context(), &read))
	d.must(d.db.Delete(&Customer{}, c.ID).Error)
	d.wantError("Save", d.db.Save(&read).Error, kmsencrypted.ErrConflict)
}
