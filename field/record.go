package field

import (
	"encoding"
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

// record is one row of a model.
type record struct {
	box    *kmsencrypted.Box
	schema *schema
	row    any           // pointer to the caller's struct
	v      reflect.Value // that struct
}

func (r record) key(k *keySpec) *Key { return r.at(k.index).Addr().Interface().(*Key) }

func (r *record) field(f *fieldSpec) holder { return r.at(f.index).Addr().Interface().(holder) }

// String returns the name of the record in errors: "customers id=7".
func (r *record) String() string {
	var b strings.Builder
	b.WriteString(r.schema.config.Table)
	for _, id := range r.schema.ids {
		text, _ := idText(r.at(id.index))
		fmt.Fprintf(&b, " %s=%s", id.column, text)
	}
	return b.String()
}

// failed adds the place to an error. column may be empty.
func (r *record) failed(op, column string, err error) error {
	if err == nil {
		return nil
	}
	e := kmsencrypted.Error{Err: err}
	if known, ok := err.(*kmsencrypted.Error); ok {
		e = *known // the Box knows key and version
	}
	e.Op, e.Record, e.Column = op, r.String(), column
	return &e
}

// id returns the primary key as text, or nil if it is unknown.
func (r record) id() []string {
	ids := make([]string, len(r.schema.ids))
	for i, id := range r.schema.ids {
		v := r.at(id.index)
		text, known := idText(v)
		if !known && !(len(ids) > 1 && (v.CanInt() || v.CanUint())) { // 0 is a value in a composite key
			return nil
		}
		ids[i] = text
	}
	return ids
}

// binding returns the binding of the data key in a key column. It keeps a copy of
// r, because a cached key may need the context long after the call of r.
func (r record) binding(k *keySpec) kmsencrypted.Binding {
	id := r.id()
	return kmsencrypted.Binding{
		Table:   r.schema.table,
		Column:  k.bound,
		ID:      id,
		Target:  k.target,
		Subject: kmsencrypted.Subject{Model: r.schema.name, ID: id, Key: k.name, Record: r.row},
		Context: kmsencrypted.VersionedContext(func(version int) (kmsencrypted.EncryptionContext, error) {
			return r.context(k, id, version)
		}),
	}
}

// context returns the context of the model, otherwise of the version, otherwise
// the default.
func (r record) context(k *keySpec, id []string, version int) (kmsencrypted.EncryptionContext, error) {
	recipe, err := r.box.Version(version)
	if err != nil {
		return nil, err
	}
	f := r.schema.config.Context
	if f == nil {
		f = recipe.Context
	}
	if f != nil {
		return ask(f, kmsencrypted.Subject{Model: r.schema.name, ID: id, Key: k.name, Version: version, Record: r.row})
	}
	if id == nil {
		return nil, kmsencrypted.ErrNoID
	}
	return r.defaultContext(id), nil
}

// ask calls a function for the context of a record. A function that uses
// Subject.ID[0] panics if the id is unknown; ask then returns ErrNoID.
func ask(f kmsencrypted.ContextFunc, s kmsencrypted.Subject) (_ kmsencrypted.EncryptionContext, err error) {
	if s.ID == nil {
		defer func() {
			cause := recover()
			if _, ok := cause.(runtime.Error); ok {
				err = kmsencrypted.ErrNoID
			} else if cause != nil {
				panic(cause)
			}
		}()
	}
	return f(s)
}

// defaultContext returns kms_encrypted's {model_name, model_id}. A compound
// primary key, for which Ruby has no default, is named column by column.
func (r *record) defaultContext(id []string) kmsencrypted.EncryptionContext {
	if len(id) == 1 {
		v := r.at(r.schema.ids[0].index)
		return kmsencrypted.ModelContext{Name: r.schema.name, ID: id[0], Number: v.CanInt() || v.CanUint()}
	}
	c := kmsencrypted.OrderedContext{{Name: "model_name", Value: r.schema.name}}
	for i, spec := range r.schema.ids {
		c = append(c, kmsencrypted.Pair{Name: spec.column, Value: id[i]})
	}
	return c
}

// idType reports whether a primary key of type t has a text. A time has one, but
// databases round it and move it to another zone.
func idType(t reflect.Type) bool {
	if isTime(t) {
		return false
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.String:
		return true
	}
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

// isTime reports whether a type is a time, or has the methods of one.
func isTime(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	for f := range t.Fields() {
		if f.Anonymous && isTime(f.Type) {
			return true
		}
	}
	return t == timeType
}

// idText is a primary key as text. The zero value counts as not known yet.
func idText(v reflect.Value) (text string, known bool) {
	if v.IsZero() && !v.CanInt() && !v.CanUint() {
		return "", false
	}
	if m, ok := v.Addr().Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		return string(text), err == nil && !v.IsZero()
	}
	switch {
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), !v.IsZero()
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), !v.IsZero()
	}
	return v.String(), true
}
