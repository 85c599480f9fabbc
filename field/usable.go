package field

import (
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Model and for a nil
// record.
func (m *Model[R]) usable(rows []*R) error {
	if m == nil || m.schema == nil {
		return fmt.Errorf("field: %w: the Model was not made by NewModel", kmsencrypted.ErrConfig)
	}
	if i := slices.Index(rows, nil); i >= 0 {
		return fmt.Errorf("field: %w: record %d of %d of %s is nil", kmsencrypted.ErrConfig, i, len(rows), m.Table())
	}
	return nil
}
