package rubycompat

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// structField is a field of a struct as encoding/json sees it.
type structField struct {
	name                string
	index               []int
	tagged              bool
	omitEmpty, omitZero bool
}

// structFields returns the fields of t in the order in which encoding/json writes
// them. Of fields with the same name the least nested wins, then the tagged one.
// If that does not decide, none of them counts.
func structFields(t reflect.Type) ([]structField, error) {
	all, err := collectFields(nil, t, nil, nil)
	if err != nil {
		return nil, err
	}
	byName := make(map[string][]structField, len(all))
	for _, f := range all {
		byName[f.name] = append(byName[f.name], f)
	}
	return slices.DeleteFunc(all, func(f structField) bool {
		return slices.ContainsFunc(byName[f.name], func(rival structField) bool {
			return !slices.Equal(rival.index, f.index) && !outranks(f, rival)
		})
	}), nil
}

func outranks(f, rival structField) bool {
	if len(f.index) != len(rival.index) {
		return len(f.index) < len(rival.index)
	}
	return f.tagged && !rival.tagged
}

// collectFields appends the fields of t, and those of the structs embedded in it.
func collectFields(into []structField, t reflect.Type, index []int, within []reflect.Type) ([]structField, error) {
	if slices.Contains(within, t) {
		return into, nil // a type that embeds itself adds nothing new
	}
	within = append(slices.Clip(within), t)
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if tag == "-" {
			continue
		}
		field := structField{index: append(slices.Clip(index), i)}
		var options string
		field.name, options, _ = strings.Cut(tag, ",")
		field.tagged = field.name != ""
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "omitempty":
				field.omitEmpty = true
			case "omitzero":
				field.omitZero = true
			case "string":
				return nil, fmt.Errorf("%w for option string of %v.%s", errKind, t, f.Name)
			}
		}
		if embedded := structOf(f.Type); f.Anonymous && embedded != nil && !field.tagged {
			var err error
			if into, err = collectFields(into, embedded, field.index, within); err != nil {
				return nil, err
			}
			continue
		}
		if !f.IsExported() {
			continue
		}
		if !field.tagged {
			field.name = f.Name
		}
		into = append(into, field)
	}
	return into, nil
}

// structOf returns the struct of an embedded field, or nil.
func structOf(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	return t
}
