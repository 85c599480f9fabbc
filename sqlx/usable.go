package kmssqlx

import (
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
)

// usable returns [kmsencrypted.ErrConfig] for a database, a model or a record that
// is nil.
func usable[R any](op string, db Ext, m *field.Model[R], rows ...*R) error {
	if err := m.Adapter().Check(rows...); err != nil {
		return failed(op, m.Table(), err)
	}
	if missing.Is(db) {
		return failed(op, m.Table(), fmt.Errorf("%w: the database is nil", kmsencrypted.ErrConfig))
	}
	return nil
}

// usableList is usable for the destination of many records.
func usableList[R any](op string, db Ext, m *field.Model[R], dest *[]R) error {
	if dest == nil {
		return failed(op, m.Table(), fmt.Errorf("%w: the destination is nil", kmsencrypted.ErrConfig))
	}
	return usable(op, db, m)
}
