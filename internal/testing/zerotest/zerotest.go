// Package zerotest calls every method of a value that nobody set up.
package zerotest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// Methods calls every exported method of v with a context and otherwise with zero
// arguments, of which a variadic method gets one. None may panic, and those that
// return an error must return [kmsencrypted.ErrConfig]. Methods that print or encode
// the value, and those named in skip, are not called.
func Methods(t *testing.T, v any, skip ...string) {
	t.Helper()
	each(t, v, skip, func(name string, err error) {
		if !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%T.%s = %v, want ErrConfig", v, name, err)
		}
	})
}

// NoPanic calls the same methods of a value that may be used without being set up.
// None may panic.
func NoPanic(t *testing.T, v any, skip ...string) {
	t.Helper()
	each(t, v, skip, func(string, error) {})
}

// each calls the methods and passes on the errors of those that return one.
func each(t *testing.T, v any, skip []string, judge func(name string, err error)) {
	t.Helper()
	value := reflect.ValueOf(v)
	for i := range value.NumMethod() {
		name := value.Type().Method(i).Name
		if slices.Contains(skip, name) || prints.MatchString(name) {
			continue
		}
		panicked, has, err := call(t.Context(), value.Method(i))
		switch {
		case panicked != nil:
			t.Errorf("%T.%s panics: %v", v, name, panicked)
		case has:
			judge(name, err)
		}
	}
}

var prints = regexp.MustCompile(`^(String|GoString|Format|LogValue|Gob.*|(M|Unm)arshal.*)$`)

// call returns the error that a method returns last, if it has one.
func call(ctx context.Context, method reflect.Value) (panicked any, has bool, err error) {
	defer func() { panicked = recover() }()
	var args []reflect.Value
	for i := range method.Type().NumIn() {
		switch in := method.Type().In(i); {
		case in == reflect.TypeFor[context.Context]():
			args = append(args, reflect.ValueOf(ctx))
		case method.Type().IsVariadic() && i == method.Type().NumIn()-1:
			args = append(args, reflect.Zero(in.Elem()))
		default:
			args = append(args, reflect.Zero(in))
		}
	}
	for _, out := range method.Call(args) {
		if out.Type() == reflect.TypeFor[error]() {
			err, _ = out.Interface().(error)
			has = true
		}
	}
	return nil, has, err
}

// Calls makes calls that must each return [kmsencrypted.ErrConfig] and not panic.
func Calls(t *testing.T, calls map[string]func() error) {
	t.Helper()
	for name, try := range calls {
		if err := recovered(try); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s = %v, want ErrConfig", name, err)
		}
	}
}

func recovered(try func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return try()
}
