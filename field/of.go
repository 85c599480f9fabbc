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
// ciphertext. [Model.Seal] and [Model.Open] convert between the two.
//
// T is a string, []byte, bool, any integer or float, time.Time, netip.Addr,
// netip.Prefix, a type with encoding.TextMarshaler and TextUnmarshaler, a type in
// [Config.Types], or any other type, which is stored as JSON. For a column that may
// be NULL use a pointer or sql.Null of one of these. Otherwise NULL reads as the
// zero T, and [Of.IsNull] tells the difference. A value of another library whose
// Valid is false, such as uuid.NullUUID, is NULL too.
//
// NewModel refuses types that do not survive JSON, such as a struct with unexported
// fields and no methods to marshal them. If the plaintext is JSON, YAML or the
// type's own text, Seal decodes it and compares. It returns [kmsencrypted.ErrLossy]
// for a value that would be read as another one. That takes as long as opening the
// value; [Type.Unchecked] disables it for a type.
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

// Set sets a new plaintext, to be sealed and written. A nil pointer, slice, map or
// interface sets NULL, and so does a value that is not Valid, such as an sql.Null.
func (o *Of[T]) Set(v T) {
	if mayMeanNull(reflect.TypeFor[T]().Kind()) && meansNull(v) {
		o.SetNull()
		return
	}
	o.h.state, o.h.filled, o.h.old, o.v = plain, false, oldAlone, secret.Hide(v)
	o.h.kept = secret.Pointer[kept]{}
}

// SetNull sets the field to NULL.
func (o *Of[T]) SetNull() {
	o.h.state, o.h.set, o.h.filled, o.h.old = null, true, false, oldAlone
	o.h.stored, o.v, o.h.kept = nullColumn, secret.Pointer[T]{}, secret.Pointer[kept]{}
}

// Get returns the plaintext of a field that was set or opened, or the zero T for
// NULL. It returns [kmsencrypted.ErrNotOpened] for a ciphertext and
// [kmsencrypted.ErrNotLoaded] for a column that was neither read nor set.
func (o Of[T]) Get() (v T, err error) {
	switch o.h.state {
	case plain, opened:
		return *o.v.Get(), nil
	case null:
		if o.h.waits() {
			return v, kmsencrypted.ErrNotOpened
		}
		return v, nil
	case closed:
		return v, kmsencrypted.ErrNotOpened
	}
	return v, kmsencrypted.ErrNotLoaded
}

// Must is like [Of.Get] but panics instead of returning an error, for code right
// after a record was opened.
func (o Of[T]) Must() T {
	v, err := o.Get()
	if err != nil {
		panic("field: Must: " + err.Error())
	}
	return v
}

// Plain returns the plaintext, and opens the field first if the record was prepared
// with [Model.OpenLazily]. The record's data key is unwrapped once for all its
// fields.
func (o *Of[T]) Plain(ctx context.Context) (T, error) {
	if o.h.lazy != nil && (o.h.state == closed || o.h.state == null && !o.h.set) {
		if err := o.h.lazy.open(ctx, o); err != nil {
			var zero T
			return zero, err
		}
	}
	return o.Get()
}

// IsNull reports whether the column is NULL or was set to NULL.
func (o Of[T]) IsNull() bool { return o.h.state == null }

// IsSet reports whether the field holds a plaintext that was not sealed yet: it was
// set, or its value was changed in place.
func (o Of[T]) IsSet() bool { return o.h.state == plain || o.changedInPlace() }

// IsLoaded reports whether the field was read or set.
func (o Of[T]) IsLoaded() bool { return o.h.state != unset }

// Scan reads the ciphertext from the database; it implements [sql.Scanner].
func (o *Of[T]) Scan(src any) error {
	o.v = secret.Pointer[T]{}
	return o.h.scan(src)
}

// Value returns the ciphertext for the database; it implements [driver.Valuer]. It
// returns [kmsencrypted.ErrUnsealed] for a plaintext that was not sealed, and
// [kmsencrypted.ErrNotLoaded] for a field that was neither read nor sealed with its
// record, so that a column that was never read is never overwritten.
func (o Of[T]) Value() (driver.Value, error) {
	switch {
	case o.IsSet():
		return nil, kmsencrypted.ErrUnsealed
	case o.h.state == unset:
		return nil, kmsencrypted.ErrNotLoaded
	}
	return o.h.stored.value(), nil
}

// holder is a field of any T, as the model uses it.
type holder interface {
	// head returns the field without its plaintext. The model changes it in place.
	head() *head
	// plaintext returns the addressable value in state plain or opened.
	plaintext() reflect.Value
	// encode appends the bytes of that value to dst. isNull means that the column
	// becomes NULL.
	encode(c *codec, dst []byte) (out []byte, isNull bool, err error)
	// decode sets the plaintext of the field, which is then opened.
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
