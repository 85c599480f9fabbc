// Package missing tells arguments that nobody gave.
package missing

import "reflect"

// Is reports whether v is nil or holds a nil pointer or function: an interface with
// a nil pointer in it is not nil itself.
func Is(v any) bool {
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Func:
		return r.IsNil()
	}
	return false
}
