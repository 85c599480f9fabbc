package field

import (
	"fmt"
	"reflect"

	"github.com/kmsencrypted/kmsencrypted"
)

// core is a model without the type of its rows, which are pointers to structs here.
// It does all the work, so that the compiler makes that code once and not for every
// R: methods of a Model only hand their rows over.
type core struct {
	box    *kmsencrypted.Box
	schema *schema
	row    reflect.Type // the struct
}

func newCore(box *kmsencrypted.Box, row reflect.Type, config Config) (*core, error) {
	s, err := newSchema(row, config)
	if err == nil {
		err = s.suits(box)
	}
	if err != nil {
		return nil, fmt.Errorf("field: model of table %s: %w", config.Table, err)
	}
	return &core{box, s, row}, nil
}

// noSchema is that of a nil or zero Model.
var noSchema schema

// inner returns nil for a nil or zero Model. All methods of core allow that.
func (m *Model[R]) inner() *core {
	if m == nil {
		return nil
	}
	return m.core
}

// untyped returns the rows of a call as core takes them.
func untyped[R any](rows []*R) []any {
	list := make([]any, len(rows))
	for i, row := range rows {
		list[i] = row
	}
	return list
}

func (c *core) spec() *schema {
	if c == nil {
		return &noSchema
	}
	return c.schema
}

func (c *core) table() string { return c.spec().config.Table }

// recordOf returns the view of a row of which nothing is known yet.
func (c *core) recordOf(row any) (record, error) {
	if dynamic, ok := row.(*any); ok && dynamic != nil {
		row = *dynamic
	}
	if reflect.TypeOf(row) == reflect.PointerTo(c.row) && !isNil(row) {
		return c.record(row), nil
	}
	return record{}, fmt.Errorf("%w: a %T is no record of the model", kmsencrypted.ErrConfig, row)
}

// record returns the view of one row that the methods of core use.
func (c *core) record(row any) record {
	if dynamic, ok := row.(*any); ok {
		row = *dynamic
	}
	return record{box: c.box, schema: c.schema, row: row, v: reflect.ValueOf(row).Elem()}
}
