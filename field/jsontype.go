package field

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/kmsencrypted/kmsencrypted"
)

// jsonFault returns why values of a type would not survive JSON, as far as the
// type reveals it. The rest is found when a value is sealed.
func jsonFault(t reflect.Type) error {
	w := jsonWalk{seen: make(map[visited]bool)}
	w.visit(t, true, t.String())
	if w.fault == "" {
		return nil
	}
	return fmt.Errorf("%w: a %v does not come back from JSON: %s: give the type MarshalJSON and UnmarshalJSON, or declare it in Config.Types", kmsencrypted.ErrConfig, t, w.fault)
}

// jsonWalk visits a type as encoding/json does, until it finds a fault.
type jsonWalk struct {
	seen  map[visited]bool
	fault string
}

// visited is a type that was visited. Methods of its pointer count for an
// addressable value.
type visited struct {
	t           reflect.Type
	addressable bool
}

func (w *jsonWalk) refuse(format string, args ...any) {
	if w.fault == "" {
		w.fault = fmt.Sprintf(format, args...)
	}
}

func (w *jsonWalk) visit(t reflect.Type, addressable bool, path string) {
	if w.fault != "" || w.seen[visited{t, addressable}] {
		return
	}
	w.seen[visited{t, addressable}] = true
	if t.Kind() == reflect.Pointer {
		w.visit(t.Elem(), true, path)
		return
	}
	m := methodsOf(t, addressable)
	switch {
	case m.writes() && m.reads():
		return
	case m.marshalText && !m.marshalJSON && t.Kind() != reflect.String:
		w.refuse("%s is written by its MarshalText and has no UnmarshalText", path)
		return
	}
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		w.refuse("%s is a %v", path, t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			w.refuse("%s is the interface %v, and JSON does not say which type was in it", path, t)
		}
	case reflect.Slice:
		w.visit(t.Elem(), true, path+"[]")
	case reflect.Array:
		w.visit(t.Elem(), addressable, path+"[]")
	case reflect.Map:
		w.visitKey(t.Key(), path)
		w.visit(t.Elem(), false, path+"[]")
	case reflect.Struct:
		w.visitStruct(t, addressable, path, make(map[string]string), nil)
	}
}

func (w *jsonWalk) visitKey(key reflect.Type, path string) {
	switch k := key.Kind(); {
	case k == reflect.String, k >= reflect.Int && k <= reflect.Uintptr:
		return
	}
	if m := methodsOf(key, false); !m.marshalText || !m.unmarshalText {
		w.refuse("%s has keys of type %v", path, key)
	}
}

// visitStruct visits the fields of a struct and of those embedded in it. names
// are the JSON names of the fields so far.
func (w *jsonWalk) visitStruct(t reflect.Type, addressable bool, path string, names map[string]string, within []reflect.Type) {
	for _, outer := range within {
		if outer == t {
			return // a type that embeds itself adds nothing
		}
	}
	within = append(within, t)
	for f := range t.Fields() {
		where := path + "." + f.Name
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		isStruct := inner.Kind() == reflect.Struct
		switch {
		case isStateless(f):
		case f.Tag.Get("json") == "-":
			w.refuse("%s has the tag json:\"-\"", where)
		case f.Anonymous && isStruct && !f.IsExported() && f.Type.Kind() == reflect.Pointer:
			w.refuse("%s is embedded by a pointer and not exported", where)
		case f.Anonymous && isStruct && name == "":
			w.visitStruct(inner, addressable || inner != f.Type, where, names, within)
		case !f.IsExported() && !(f.Anonymous && isStruct):
			w.refuse("%s is not exported", where)
		default:
			if name == "" {
				name = f.Name
			}
			if other := names[name]; other != "" {
				w.refuse("%s has the same name in JSON as %s", where, other)
			}
			names[name] = where
			w.visit(f.Type, addressable, where)
		}
	}
}

// isStateless reports whether a field contains nothing that could be lost.
func isStateless(f reflect.StructField) bool {
	return f.Name == "_" || f.Type.Size() == 0 || f.Type == reflect.TypeFor[sync.Mutex]() || f.Type == reflect.TypeFor[sync.RWMutex]()
}

// methods are the methods by which encoding/json writes and reads a type.
type methods struct{ marshalJSON, unmarshalJSON, marshalText, unmarshalText bool }

func methodsOf(t reflect.Type, addressable bool) methods {
	writer, reader := t, reflect.PointerTo(t)
	if addressable {
		writer = reader
	}
	return methods{
		marshalJSON:   writer.Implements(reflect.TypeFor[json.Marshaler]()),
		unmarshalJSON: reader.Implements(reflect.TypeFor[json.Unmarshaler]()),
		marshalText:   writer.Implements(reflect.TypeFor[encoding.TextMarshaler]()),
		unmarshalText: reader.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()),
	}
}

func (m methods) writes() bool { return m.marshalJSON || m.marshalText }
func (m methods) reads() bool  { return m.unmarshalJSON || m.unmarshalText }
