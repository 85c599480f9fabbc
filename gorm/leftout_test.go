package kmsgorm_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// A record is not sealed for an id that Select or Omit leaves out of the INSERT: the
// database would choose another.
func TestIDLeftOutSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	d.wantError("Select", d.db.Select("Name", "Email").Create(&Customer{ID: 7, Email: field.New(ada)}).Error, errors.ErrUnsupported)
	d.wantError("Omit", d.db.Omit("ID").Create(&Customer{ID: 7, Email: field.New(ada)}).Error, errors.ErrUnsupported)
	c := Customer{Email: field.New(ada)}
	d.must(d.db.Select("Name", "Email").Create(&c).Error)
	d.must(d.db.Select("ID", "Name", "Email").Create(&Customer{ID: 7, Email: field.New(grace)}).Error)
	if first, second := d.read(c.ID), d.read(7); first.Email.Must() != ada || second.Email.Must() != grace {
		t.Error("other values are stored")
	}
}
