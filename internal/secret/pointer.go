package secret

import "unsafe"

// Pointer keeps a secret out of reach of everything that prints what it can
// follow. A plain pointer does not: under a verb that does not suit it, such as
// %s, fmt prints what a pointer to a struct, slice, array or map points to,
// whatever methods that has, and printers that go deeper than fmt, as test
// libraries have them, follow every pointer that has a type. This one has none.
// The zero value holds nothing.
type Pointer[T any] struct {
	_ [0]*T // else a Pointer to another type could be converted into this one
	p unsafe.Pointer
}

// Hide takes v behind a pointer.
func Hide[T any](v T) Pointer[T] { return Pointer[T]{p: unsafe.Pointer(&v)} }

// Get returns the secret, nil if there is none.
func (p Pointer[T]) Get() *T { return (*T)(p.p) }
