package records

import (
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
)

// Usable returns [kmsencrypted.ErrConfig] for a database, a model or a record that
// is nil, and for a record that is listed twice.
func Usable[R any](op string, db any, m *field.Model[R], rows ...*R) error {
	if err := m.Adapter().Check(rows...); err != nil {
		return Failed(op, m.Table(), err)
	}
	if missing.Is(db) {
		return Failed(op, m.Table(), fmt.Errorf("%w: the database is nil", kmsencrypted.ErrConfig))
	}
	return nil
}
