package field

import (
	"bytes"
	"net/netip"
	"reflect"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// A program that was given a map, a slice or a pointer by [Of.Get] can change what
// the field holds without calling Set. So a field of such a type keeps, beside its
// value, the plaintext that its ciphertext has. Before anything is decided the
// value is encoded again and compared.

// kept is the plaintext that is in the column, or will be once the record is
// written. It never changes, so that copies of a record can share it.
type kept struct {
	codec     *codec
	plaintext []byte
	isNull    bool // the value stands for NULL
}

// keep copies a plaintext, of a field that can be changed in place.
func (f *fieldSpec) keep(c *codec, plaintext []byte, isNull bool) (k secret.Pointer[kept]) {
	if !f.mutable {
		return k
	}
	return secret.Hide(kept{c, bytes.Clone(plaintext), isNull})
}

// differs reports whether v would be written as another plaintext than the one
// that was kept. A value that cannot be encoded any more differs: sealing it says why.
func (k *kept) differs(v reflect.Value) bool {
	now, isNull, err := k.codec.encode(nil, v)
	defer func() { clear(now) }()
	switch {
	case err != nil:
		return true
	case isNull == k.isNull && (isNull || bytes.Equal(now, k.plaintext)):
		return false
	case k.isNull:
		return true
	}
	// The same value may have been written in other words, by Ruby or an older release.
	before, err := k.codec.read(v.Type(), k.plaintext)
	if err != nil {
		return true
	}
	was, wasNull, err := k.codec.encode(nil, before)
	defer func() { clear(was) }()
	if err == nil && isNull == wasNull && bytes.Equal(now, was) {
		return false
	}
	// A type of the program's may write the same value differently each time.
	return !reflect.DeepEqual(v.Interface(), before.Interface())
}

// noticeChanges makes plaintexts to be sealed of values that were changed in place,
// as if the program had set them. One that was changed back needs no sealing.
func (w *work) noticeChanges() {
	for i := range w.groups {
		g := &w.groups[i]
		for n := range g.slots {
			s := &g.slots[n]
			h := s.head()
			k := h.kept.Get()
			switch {
			case k == nil:
			case s.changedInPlace():
				if h.old == oldTaken { // the column never held what was kept
					h.kept = secret.Pointer[kept]{}
				}
				h.state, h.old = plain, oldAlone
			case h.state == plain && h.old != oldTaken:
				h.state = opened
				if k.isNull {
					h.state = null
				}
			}
		}
	}
}

// isMutable reports whether a copy of a value of type t shares something with it
// that can be changed.
func isMutable(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.Prefix](), reflect.TypeFor[netip.AddrPort]():
		return false // what they point to is the same for all
	}
	switch t.Kind() {
	case reflect.Struct:
		for f := range t.Fields() {
			if isMutable(f.Type) {
				return true
			}
		}
		return false
	case reflect.Array:
		return t.Len() > 0 && isMutable(t.Elem())
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return true
	}
	return false
}
