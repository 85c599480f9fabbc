package secret

import "unsafe"

// Pointer hides a secret from everything that prints what it can follow. A plain
// pointer does not: under an unsuitable verb, such as %s, fmt prints what a
// pointer to a struct, slice, array or map points to, and ignores its methods.
// Printers that go deeper than fmt, as in test libraries, follow every typed
// pointer. This one has no type. The zero value holds nothing.
type Pointer[T any] struct {
	_ [0]*T // prevents the conversion of a Pointer to another type into this one
	p unsafe.Pointer
}

// Hide returns a Pointer to v.
func Hide[T any](v T) Pointer[T] { return Pointer[T]{p: unsafe.Pointer(&v)} }

// Get returns the secret, or nil if there is none.
func (p Pointer[T]) Get() *T { return (*T)(p.p) }
