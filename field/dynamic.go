package field

import (
	"reflect"

	"github.com/kmsencrypted/kmsencrypted"
)

// A model of type Model[any] is one whose struct is known at run time only: of a
// table that a configuration file describes, or of any table in a program that
// works on all of them. Each of its rows is an any that holds a pointer to that
// struct.

// NewDynamicModel is [NewModel] for a struct type that is known at run time only,
// such as one of [reflect.StructOf].
func NewDynamicModel(box *kmsencrypted.Box, row reflect.Type, config Config) (*Model[any], error) {
	return newModel[any](box, row, config)
}

// Dynamic is the same model over rows of type any, each a pointer to an R.
func (m *Model[R]) Dynamic() *Model[any] {
	return &Model[any]{box: m.box, schema: m.schema, row: m.row}
}

// RowType is the struct that a row is: R, or what the rows of a dynamic model
// point to.
func (m *Model[R]) RowType() reflect.Type { return m.row }

// KeysOnly reports whether the model declares no column under its keys: see
// [Config.KeysOnly].
func (m *Model[R]) KeysOnly() bool { return m.schema.config.KeysOnly }
