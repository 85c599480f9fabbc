package field

import (
	"reflect"
	"slices"
	"strings"
)

// A record takes in the columns of embedded structs, also of those behind pointers. A
// field that is tagged gorm:"embedded" counts as embedded, and embeddedPrefix stands
// before the names of its columns, as in GORM.

// place is where a struct stands in a record.
type place struct {
	index  []int
	path   string // in errors
	scope  string // before the names of its fields, where Go does not promote them
	prefix string // before the names of its columns
	within []reflect.Type
}

// located is a field of a record.
type located struct {
	reflect.StructField
	index  []int
	column string
}

// embedded returns the place of the struct that a field embeds.
func (p place) embedded(f reflect.StructField) (inner place, t reflect.Type, ok bool) {
	t = f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || isColumn(f.Type) || isColumn(t) || slices.Contains(p.within, t) {
		return p, t, false
	}
	options := gormOptions(f)
	_, named := options["EMBEDDED"]
	if !f.Anonymous && !named {
		return p, t, false
	}
	inner = place{
		index:  append(slices.Clone(p.index), f.Index...),
		path:   p.path + f.Name + ".",
		scope:  p.scope,
		prefix: p.prefix + options["EMBEDDEDPREFIX"],
		within: append(slices.Clone(p.within), t),
	}
	if !f.Anonymous {
		inner.scope += f.Name + "."
	}
	return inner, t, true
}

// gormOptions returns the options of a gorm tag by their names in capitals.
func gormOptions(f reflect.StructField) map[string]string {
	options := make(map[string]string)
	for word := range strings.SplitSeq(f.Tag.Get("gorm"), ";") {
		name, value, _ := strings.Cut(word, ":")
		options[strings.ToUpper(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	return options
}

// locate notes a field for tags that name it. As in Go, one that is less deep hides
// others.
func (b *builder) locate(f reflect.StructField, p place, column string) {
	if known, ok := b.located[p.scope+f.Name]; !ok || len(known.index) > len(p.index)+1 {
		b.located[p.scope+f.Name] = located{f, append(slices.Clone(p.index), f.Index...), column}
	}
}

// find returns the field that a tag of another field names: one beside that field, or
// one of the record.
func (b *builder) find(of, name string) (located, bool) {
	if found, ok := b.located[scopeOf(of)+name]; ok {
		return found, true
	}
	found, ok := b.located[name]
	return found, ok
}

// scopeOf returns what stands before the name of a field: "Home." of "Home.Mail".
func scopeOf(goName string) string { return goName[:strings.LastIndexByte(goName, '.')+1] }

// at returns a field of the struct; most are not embedded. An embedded struct is made
// where its pointer is nil.
func (r *record) at(index []int) reflect.Value {
	v := r.v
	for i, n := range index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(n)
	}
	return v
}

// copyOf returns a copy of a record with embedded structs of its own.
func (s *schema) copyOf(v reflect.Value) reflect.Value {
	copied := reflect.New(v.Type()).Elem()
	copied.Set(v)
	for _, index := range s.pointers { // outer ones first
		if to, err := copied.FieldByIndexErr(index); err == nil && !to.IsNil() {
			inner := reflect.New(to.Type().Elem())
			inner.Elem().Set(to.Elem())
			to.Set(inner)
		}
	}
	return copied
}
