package field

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"time"
)

// sameValue reports whether two values of one type are equal, where one may have passed
// through a codec or a database. At every level it uses an Equal or Cmp method of the
// type if there is one. Otherwise it works like [reflect.DeepEqual], except that nil and
// empty slices and maps are equal, that NaN equals NaN, and that numbers in an interface
// are compared by value: JSON reads an int as a float64.
func sameValue(a, b reflect.Value) bool {
	var c comparison
	return c.same(a, b, 0)
}

// comparison remembers which pairs are being compared, for values that contain
// themselves.
type comparison struct{ begun map[pair]bool }

type pair struct {
	a, b uintptr
	t    reflect.Type
}

// deep is the depth after which a comparison looks for cycles.
const deep = 32

func (c *comparison) same(a, b reflect.Value, depth int) bool {
	if !a.IsValid() || !b.IsValid() {
		return a.IsValid() == b.IsValid()
	}
	if a.Type() != b.Type() {
		return false
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if depth > deep && c.isBegun(a, b) {
			return true
		}
	}
	if a.Kind() == reflect.Pointer {
		return a.IsNil() == b.IsNil() && (a.IsNil() || c.same(a.Elem(), b.Elem(), depth+1))
	}
	if same, ok := sameByMethod(a, b); ok {
		return same
	}
	switch a.Kind() {
	case reflect.Interface:
		return c.sameInterface(a.Elem(), b.Elem(), depth+1)
	case reflect.Float32, reflect.Float64:
		return a.Float() == b.Float() || math.IsNaN(a.Float()) && math.IsNaN(b.Float())
	case reflect.Slice, reflect.Array:
		return c.sameList(a, b, depth+1)
	case reflect.Map:
		return c.sameMap(a, b, depth+1)
	case reflect.Struct:
		for i := range a.NumField() {
			if a.Type().Field(i).Name != "_" && !c.same(a.Field(i), b.Field(i), depth+1) {
				return false
			}
		}
		return true
	case reflect.Func:
		return a.IsNil() && b.IsNil()
	}
	return a.Equal(b)
}

func (c *comparison) isBegun(a, b reflect.Value) bool {
	p := pair{a.Pointer(), b.Pointer(), a.Type()}
	if c.begun[p] {
		return true
	}
	if c.begun == nil {
		c.begun = make(map[pair]bool)
	}
	c.begun[p] = true
	return false
}

func (c *comparison) sameList(a, b reflect.Value, depth int) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.Len() {
		if !c.same(a.Index(i), b.Index(i), depth) {
			return false
		}
	}
	return true
}

func (c *comparison) sameMap(a, b reflect.Value, depth int) bool {
	if a.Len() != b.Len() {
		return false
	}
	for entry := a.MapRange(); entry.Next(); {
		if other := b.MapIndex(entry.Key()); !other.IsValid() || !c.same(entry.Value(), other, depth) {
			return false
		}
	}
	return true
}

// sameInterface compares the values of two interfaces, numbers by value.
func (c *comparison) sameInterface(a, b reflect.Value, depth int) bool {
	if m, ok := numberOf(a); ok {
		n, ok := numberOf(b)
		return ok && m.same(n)
	}
	return c.same(a, b, depth)
}

var (
	timeType    = reflect.TypeFor[time.Time]()
	rawJSONType = reflect.TypeFor[json.RawMessage]()
)

// sameByMethod compares values with a method of their type. ok is false if there is none.
func sameByMethod(a, b reflect.Value) (same, ok bool) {
	t := a.Type()
	if t.PkgPath() == "" || t.Kind() == reflect.Interface {
		return false, false // an unnamed or predeclared type
	}
	if a, ok = exposed(a); !ok {
		return false, false
	}
	if b, ok = exposed(b); !ok {
		return false, false
	}
	switch t {
	case timeType:
		return a.Addr().Interface().(*time.Time).Equal(*b.Addr().Interface().(*time.Time)), true
	case rawJSONType:
		return sameJSON(a.Bytes(), b.Bytes()), true
	}
	if a.Addr().NumMethod() == 0 {
		return false, false
	}
	for _, name := range []string{"Equal", "Cmp"} {
		method := a.Addr().MethodByName(name)
		if !method.IsValid() || method.Type().NumIn() != 1 || method.Type().NumOut() != 1 {
			continue
		}
		in, out := method.Type().In(0), method.Type().Out(0).Kind()
		if name == "Equal" && out != reflect.Bool || name == "Cmp" && out != reflect.Int {
			continue
		}
		switch {
		case t.AssignableTo(in):
			return callsSame(method, b), true
		case reflect.PointerTo(t).AssignableTo(in):
			return callsSame(method, b.Addr()), true
		}
	}
	return false, false
}

// callsSame calls an Equal or Cmp method. A panic counts as not equal, and is not
// reported, because it may contain a value.
func callsSame(method, other reflect.Value) (same bool) {
	defer func() {
		if recover() != nil {
			same = false
		}
	}()
	out := method.Call([]reflect.Value{other})[0]
	if out.Kind() == reflect.Bool {
		return out.Bool()
	}
	return out.Int() == 0
}

// exposed returns v if its methods can be called: addressable, and not through an
// unexported field.
func exposed(v reflect.Value) (reflect.Value, bool) {
	switch {
	case v.CanAddr() && v.CanInterface():
		return v, true
	case v.CanAddr():
		return reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem(), true
	case v.CanInterface():
		c := reflect.New(v.Type()).Elem()
		c.Set(v)
		return c, true
	}
	return v, false
}

// sameJSON compares JSON texts by meaning: white space, escapes and the order of members
// may differ.
func sameJSON(a, b []byte) bool {
	parse := func(text []byte) (v any, err error) {
		if len(text) == 0 {
			return nil, nil // encoding/json writes it as null
		}
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.UseNumber()
		return v, d.Decode(&v)
	}
	x, err := parse(a)
	y, other := parse(b)
	return err == nil && other == nil && sameValue(reflect.ValueOf(&x).Elem(), reflect.ValueOf(&y).Elem())
}
