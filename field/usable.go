package field

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// noSchema is that of a nil or zero Model.
var noSchema schema

func (m *Model[R]) spec() *schema {
	if m == nil || m.schema == nil {
		return &noSchema
	}
	return m.schema
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Model and for a nil
// record.
func (m *Model[R]) usable(rows []*R) error {
	if m == nil || m.schema == nil {
		return fmt.Errorf("field: %w: the Model was not made by NewModel", kmsencrypted.ErrConfig)
	}
	if i := slices.IndexFunc(rows, isNil); i >= 0 {
		return fmt.Errorf("field: %w: record %d of %d of %s is nil", kmsencrypted.ErrConfig, i, len(rows), m.Table())
	}
	return nil
}

// distinct returns [kmsencrypted.ErrConfig] for a record that is listed twice: it
// describes one row.
func (m *Model[R]) distinct(rows []*R) error {
	if len(rows) < 2 {
		return nil
	}
	seen := make(map[any]int, len(rows))
	for i, row := range rows {
		var record any = row
		if dynamic, ok := record.(*any); ok {
			record = *dynamic
		}
		if first, twice := seen[record]; twice {
			return fmt.Errorf("field: %w: records %d and %d of %d of %s are the same", kmsencrypted.ErrConfig, first, i, len(rows), m.Table())
		}
		seen[record] = i
	}
	return nil
}

// lacks reports whether a method that cannot return an error has nothing to work
// on: a nil or zero Model, or a nil record.
func (m *Model[R]) lacks(row *R) bool { return m.spec() == &noSchema || isNil(row) }

// present leaves out of rows what lacks reports.
func (m *Model[R]) present(rows []*R) []*R {
	if !slices.ContainsFunc(rows, m.lacks) {
		return rows
	}
	return slices.DeleteFunc(slices.Clone(rows), m.lacks)
}

// isNil also finds a row of a dynamic model that holds no record.
func isNil[R any](row *R) bool {
	if row == nil {
		return true
	}
	dynamic, ok := any(row).(*any)
	if !ok {
		return false
	}
	v := reflect.ValueOf(*dynamic)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}
