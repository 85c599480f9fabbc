package rubycompat

import "reflect"

// The Ruby formats that hold more than text (JSON, YAML, Marshal) share a small
// set of Go types for Ruby values: nil, bool, int64, *big.Int (beyond int64),
// float64, string, []byte (binary strings), [Symbol], []any and [Hash]. A format
// may add types of its own.

// Symbol is a Ruby symbol, without its colon.
type Symbol string

// Hash is a Ruby hash: entries in order, with keys of any kind.
type Hash []Pair

// Pair is one entry of a [Hash].
type Pair struct{ Key, Value any }

// DefaultHash is a hash with a value for the keys that it lacks.
type DefaultHash struct {
	Hash    Hash
	Default any
}

// ClassError reports an object of a Ruby class without a Go form. In Ruby,
// reading one runs code of the class; Go could only guess.
type ClassError struct {
	// Class is the name in the plaintext. It is secret, so the error text omits it.
	Class string
}

func (e *ClassError) Error() string { return "contains an object of a Ruby class that has no Go form" }

// Get returns the value of key. ok is false if there is none. A symbol and a
// string of the same name are different keys.
func (h Hash) Get(key any) (value any, ok bool) {
	for _, p := range h {
		if reflect.DeepEqual(p.Key, key) {
			return p.Value, true
		}
	}
	return nil, false
}
