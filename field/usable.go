package field

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Model and for a nil
// record.
func (c *core) usable(rows []any) error {
	if c == nil {
		return fmt.Errorf("field: %w: the Model was not made by NewModel", kmsencrypted.ErrConfig)
	}
	if i := slices.IndexFunc(rows, isNil); i >= 0 {
		return fmt.Errorf("field: %w: record %d of %d of %s is nil", kmsencrypted.ErrConfig, i, len(rows), c.table())
	}
	return nil
}

// check is usable and distinct.
func (c *core) check(rows []any) error {
	if err := c.usable(rows); err != nil {
		return err
	}
	return c.distinct(rows)
}

// distinct returns [kmsencrypted.ErrConfig] for a record that is listed twice: it
// describes one row.
func (c *core) distinct(rows []any) error {
	if ascending(rows) {
		return nil
	}
	seen := make(map[any]int, len(rows))
	for i, row := range rows {
		row = pointerTo(row)
		if first, twice := seen[row]; twice {
			return fmt.Errorf("field: %w: records %d and %d of %d of %s are the same", kmsencrypted.ErrConfig, first, i, len(rows), c.table())
		}
		seen[row] = i
	}
	return nil
}

// lacks reports whether a method that cannot return an error has nothing to work
// on: a nil or zero Model, or a nil record.
func (c *core) lacks(row any) bool { return c == nil || isNil(row) }

// present leaves out of rows what lacks reports. It changes the list.
func (c *core) present(rows []any) []any { return slices.DeleteFunc(rows, c.lacks) }

// isNil also finds a row of a dynamic model that holds no record.
func isNil(row any) bool {
	if dynamic, ok := row.(*any); ok && dynamic != nil {
		row = *dynamic
	}
	v := reflect.ValueOf(row)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

// ascending reports whether records lie in memory in their order, as those of a slice do,
// and so are different ones. Looking each up takes longer than finding its key in the cache.
func ascending(rows []any) bool {
	last := uintptr(0)
	for _, row := range rows {
		at := reflect.ValueOf(pointerTo(row)).Pointer()
		if at <= last {
			return false
		}
		last = at
	}
	return true
}

// pointerTo returns the pointer to the struct of a row, also if the model takes any.
func pointerTo(row any) any {
	if dynamic, ok := row.(*any); ok {
		return *dynamic
	}
	return row
}
