package field

import (
	"context"
	"database/sql/driver"
	"fmt"
	"reflect"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// redacted makes a type print as "[redacted]" everywhere.
type redacted = secret.Redacted

// Of is an encrypted column whose plaintext is a T. In the database it is a
// ciphertext; [Model.Seal] and [Model.Open] go between the two.
//
// T is a string, []byte, bool, any integer or float, time.Time, netip.Addr,
// netip.Prefix, a type with encoding.TextMarshaler and TextUnmarshaler, a type
// given in [Config.Types], or any other type, which is kept as JSON. For a column
// that may be NULL take a pointer or sql.Null of one of these; without, NULL
// reads as the zero T, and [Of.IsNull] tells them apart. A type of another library
// whose Valid is false, such as uuid.NullUUID, is NULL too.
//
// NewModel refuses types that do not come back from JSON, such as a struct with
// fields that are not exported and no methods to marshal them. Where the plaintext
// is JSON, YAML or the type's own text, Seal decodes it and compares: a value that
// would come back as another one is [kmsencrypted.ErrLossy]. That takes as long as
// opening the value; [Type.Unchecked] switches it off for a type.
//
// A value that can be changed in place - a map, a slice, a pointer, or what has one
// of these in it - is written by the next Seal also if [Of.Set] was not called. So
// the field keeps its plaintext twice, and Seal, Write, [Of.IsSet] and [Of.Value]
// encode the value again to compare. Other types cost nothing.
//
// The zero value was neither read nor set: it is NULL in a new record and left
// alone in an update. A copy is independent: setting one leaves the other, though
// both have the same map or slice until then. Like
// any variable it is not safe for concurrent writing.
type Of[T any] struct {
	redacted
	h head
	v secret.Pointer[T] // in states plain and opened; only the program changes it once it is there
}

// New returns a field that is set to v.
func New[T any](v T) (o Of[T]) {
	o.Set(v)
	return o
}

// Set gives the field a new plaintext, to be sealed and written. A nil pointer,
// slice, map or interface and a value that is not Valid, as an sql.Null may be, are NULL.
func (o *Of[T]) Set(v T) {
	if mayMeanNull(reflect.TypeFor[T]().Kind()) && meansNull(v) {
		o.SetNull()
		return
	}
	o.h.state, o.h.filled, o.h.old, o.v = plain, false, oldAlone, secret.Hide(v)
	o.h.kept = secret.Pointer[kept]{}
}

// SetNull empties the column.
func (o *Of[T]) SetNull() {
	o.h.state, o.h.set, o.h.filled, o.h.old = null, true, false, oldAlone
	o.h.stored, o.v, o.h.kept = nullColumn, secret.Pointer[T]{}, secret.Pointer[kept]{}
}

// Get returns the plaintext of a field that was set or opened, the zero T for
// NULL. The error is [kmsencrypted.ErrNotOpened] for a ciphertext and
// [kmsencrypted.ErrNotLoaded] for a column that was neither read nor set.
func (o Of[T]) Get() (v T, err error) {
	switch o.h.state {
	case plain, opened:
		return *o.v.Get(), nil
	case null:
		return v, nil
	case closed:
		return v, kmsencrypted.ErrNotOpened
	}
	return v, kmsencrypted.ErrNotLoaded
}

// Must is [Of.Get] for code right after a record was opened. It panics where
// Get returns an error.
func (o Of[T]) Must() T {
	v, err := o.Get()
	if err != nil {
		panic("field: Must: " + err.Error())
	}
	return v
}

// Plain returns the plaintext and opens it first where needed, if the record
// was prepared with [Model.OpenLazily]. The record's data key is unwrapped once
// for all its fields.
func (o *Of[T]) Plain(ctx context.Context) (T, error) {
	if o.h.lazy != nil && (o.h.state == closed || o.h.state == null && !o.h.set) {
		if err := o.h.lazy.open(ctx, o); err != nil {
			var zero T
			return zero, err
		}
	}
	return o.Get()
}

// IsNull reports whether the column is NULL or was set to be.
func (o Of[T]) IsNull() bool { return o.h.state == null }

// IsSet reports whether the field holds a plaintext that was not sealed yet: it was
// set, or its value was changed in place.
func (o Of[T]) IsSet() bool { return o.h.state == plain || o.changedInPlace() }

// IsLoaded reports whether the field was read or set.
func (o Of[T]) IsLoaded() bool { return o.h.state != unset }

// Scan takes the ciphertext from the database; it implements [sql.Scanner].
func (o *Of[T]) Scan(src any) error {
	o.v = secret.Pointer[T]{}
	return o.h.scan(src)
}

// Value gives the ciphertext to the database; it implements [driver.Valuer]. A
// plaintext that was not sealed is [kmsencrypted.ErrUnsealed], a field that was
// neither read nor sealed with its record is [kmsencrypted.ErrNotLoaded]: what
// was never read is never written over.
func (o Of[T]) Value() (driver.Value, error) {
	switch {
	case o.IsSet():
		return nil, kmsencrypted.ErrUnsealed
	case o.h.state == unset:
		return nil, kmsencrypted.ErrNotLoaded
	}
	return o.h.stored.value(), nil
}

// holder is a field as the model sees it, whatever its T.
type holder interface {
	// head is the field without its plaintext. The model changes it in place.
	head() *head
	// plaintext is the addressable value in state plain or opened.
	plaintext() reflect.Value
	// encode appends the bytes of that value to dst; isNull says that the column
	// is to be NULL.
	encode(c *codec, dst []byte) (out []byte, isNull bool, err error)
	// decode gives the field a plaintext; it is then opened.
	decode(c *codec, plaintext []byte) error
	valueType() reflect.Type
	// changedInPlace reports whether the value is not what is in the column, or will be.
	changedInPlace() bool
	// set is Set with a value that may be of the type that T points to; the zero
	// reflect.Value is NULL.
	set(reflect.Value)
}

func (o *Of[T]) head() *head              { return &o.h }
func (o *Of[T]) plaintext() reflect.Value { return reflect.ValueOf(o.v.Get()).Elem() }
func (o *Of[T]) valueType() reflect.Type  { return reflect.TypeFor[T]() }

func (o *Of[T]) changedInPlace() bool {
	k := o.h.kept.Get()
	return k != nil && k.differs(o.plaintext())
}

func (o *Of[T]) set(v reflect.Value) {
	var value T
	if !v.IsValid() || assignIndirect(reflect.ValueOf(&value).Elem(), v.Interface()) != nil {
		o.SetNull()
		return
	}
	o.Set(value)
}

func (o *Of[T]) encode(c *codec, dst []byte) ([]byte, bool, error) {
	if text, ok := any(o.v.Get()).(*string); ok && c.isText {
		return append(dst, *text...), false, nil
	}
	return c.write(dst, o.plaintext())
}

func (o *Of[T]) decode(c *codec, plaintext []byte) error {
	var zero T
	v := secret.Hide(zero)
	if text, ok := any(v.Get()).(*string); ok && c.isText {
		*text = string(plaintext)
	} else if err := c.decode(reflect.ValueOf(v.Get()).Elem(), plaintext); err != nil && err != errNull {
		return fmt.Errorf("decode %s: %w", c.name, err)
	}
	o.v, o.h.state = v, opened
	return nil
}
