package field

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"

	"github.com/kmsencrypted/kmsencrypted"
)

// associated returns the associated data of a Lockbox column: the current text of
// the field in its tag ad=. In Ruby it is taken when the attribute is assigned.
// Here the order of assignments does not matter, and an opened column is sealed
// again if its associated data has changed.
func (r *record) associated(f *fieldSpec) ([]byte, error) {
	if f.associated == nil {
		return nil, nil
	}
	v := r.at(f.associated)
	if o, ok := v.Addr().Interface().(holder); ok {
		switch o.head().state {
		case plain, opened:
			v = o.plaintext()
		case null:
			return nil, nil
		default:
			return nil, fmt.Errorf("%w: it is associated data of %s", kmsencrypted.ErrNotOpened, f.goName)
		}
	}
	text, err := plainText(v)
	if err != nil {
		return nil, fmt.Errorf("%w: associated data of %s: %w", kmsencrypted.ErrConfig, f.goName, err)
	}
	return text, nil
}

// associatedChanged reports whether an opened column would not open any more,
// because the field in its tag ad= has another value than when it was sealed. It
// needs the key: under the master key always, under a data key once the record was
// opened.
func (g *group) associatedChanged(s *slot) bool {
	if s.spec.associated == nil || s.head().state != opened {
		return false
	}
	cipher := g.cipher
	if cipher == nil && g.key.IsOpen() {
		recipe, err := g.box.Version(kmsencrypted.ColumnVersion(g.key.h.stored.text))
		if err != nil || recipe.Format == kmsencrypted.Native { // which has no such option
			return false
		}
		cipher = newRubyCipher(g.key.dataKey)
	}
	associated, err := g.associated(s.spec)
	if cipher == nil || err != nil {
		return false
	}
	buf := newScratch()
	defer buf.release()
	_, err = cipher.open(s.spec, columns{value: s.head().stored}, associated, buf)
	return errors.Is(err, kmsencrypted.ErrDecrypt)
}

// plainText returns the text of a value as Ruby's to_s, for the types for which Go
// and Ruby agree.
func plainText(v reflect.Value) ([]byte, error) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil, nil
		}
		v = v.Elem()
	}
	if field, ok := sqlNull(v.Type()); ok {
		if !v.Field(1).Bool() {
			return nil, nil
		}
		v = v.Field(field)
	}
	if m, ok := v.Addr().Interface().(encoding.TextMarshaler); ok {
		return m.MarshalText()
	}
	switch {
	case v.Kind() == reflect.String:
		return []byte(v.String()), nil
	case v.CanInt(), v.CanUint(), v.Kind() == reflect.Bool:
		return fmt.Append(nil, v.Interface()), nil
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		return v.Bytes(), nil
	}
	return nil, fmt.Errorf("a %v has no text", v.Type())
}
