package field

import (
	"reflect"

	"github.com/kmsencrypted/kmsencrypted"
)

// A Model[any] is a model whose struct is known only at run time: of a table
// described by a configuration file, or of any table in a program that handles all
// of them. Each of its rows is an any that holds a pointer to that struct.

// NewDynamicModel is like [NewModel] for a struct type that is known only at run
// time, such as one from [reflect.StructOf].
func NewDynamicModel(box *kmsencrypted.Box, row reflect.Type, config Config) (*Model[any], error) {
	return newModel[any](box, row, config)
}

// AnyModel is a [Model] of any record type, for programs and adapters that handle
// models of several types.
type AnyModel interface {
	Table() string
	Dynamic() *Model[any]
}

// Dynamic returns the same model for rows of type any, each a pointer to an R.
func (m *Model[R]) Dynamic() *Model[any] {
	if m == nil {
		return new(Model[any])
	}
	return &Model[any]{core: m.core}
}
