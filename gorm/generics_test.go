//go:build gorm130

package kmsgorm_test

import (
	"strings"
	"testing"

	"gorm.io/gorm"
)

// gorm.G came with gorm v1.30: CI builds this test at the newest versions only.
func TestGenericsLeaveOtherColumnsSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	before := d.columns(c.ID)
	n, err := gorm.G[Customer](d.db).Where("id = ?", c.ID).Update(t.Context(), "name", "x")
	d.must(err)
	if n != 1 {
		t.Errorf("Update of generics changes %d rows, want 1", n)
	}
	if got, want := d.columns(c.ID), "x"+strings.TrimPrefix(before, "Ada"); got != want {
		t.Errorf("row:\n%s\nwant\n%s", got, want)
	}
}
