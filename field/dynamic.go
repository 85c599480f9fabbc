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

// AnyModel is a [Model] of any record type. Programs and adapters take it that work
// with models of several types.
type AnyModel interface {
	Table() string
	Dynamic() *Model[any]
}

// Dynamic returns the same model for rows of type any, each a pointer to an R.
func (m *Model[R]) Dynamic() *Model[any] {
	if m == nil {
		return new(Model[any])
	}
	return &Model[any]{box: m.box, schema: m.schema, row: m.row}
}
