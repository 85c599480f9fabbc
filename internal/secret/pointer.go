package secret

// Pointer keeps a secret out of reach of fmt. A plain pointer does not: under a
// verb that does not suit it, such as %s, fmt prints what a pointer to a struct,
// slice, array or map points to, whatever methods that has. It never follows a
// pointer to a pointer. The zero value holds nothing.
type Pointer[T any] struct {
	p **T
}

// Hide takes v behind a pointer.
func Hide[T any](v T) Pointer[T] {
	hidden := &struct { // one allocation for the value and the pointer to it
		p *T
		v T
	}{v: v}
	hidden.p = &hidden.v
	return Pointer[T]{&hidden.p}
}

// Get returns the secret, nil if there is none.
func (p Pointer[T]) Get() *T {
	if p.p == nil {
		return nil
	}
	return *p.p
}
