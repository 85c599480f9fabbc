package rubycompat

import (
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Errors for a Go value without a Ruby form. The texts never contain the value;
// a marshaler's own error may.
var (
	ErrDepth     = errors.New("nested too deeply, or a value that contains itself")
	errKind      = errors.New("no Ruby form")
	errMarshaler = errors.New("the marshal method of a value failed")
)

// Reflection converts Go values to Ruby values for the encoder of a format.
// Structs become hashes with string keys, by their json tags and the rules of
// encoding/json. Maps become hashes in the order of their keys. Types with a
// MarshalText method become strings.
type Reflection struct {
	// MaxDepth is the maximum nesting of hashes, lists and pointers. Values that
	// contain themselves exceed it.
	MaxDepth int
	// Leaf, if not nil, is called first for every value other than nil. If it
	// returns ok, its result replaces the value. Without it a time.Time has no
	// form.
	Leaf func(v any) (leaf any, ok bool, err error)
}

// Value returns v as a Ruby value.
func (r Reflection) Value(v any) (any, error) { return r.value(reflect.ValueOf(v), 0) }

func (r Reflection) value(v reflect.Value, depth int) (any, error) {
	if !v.IsValid() || nilable(v) && v.IsNil() {
		return nil, nil
	}
	switch v.Kind() {
	case reflect.Interface:
		return r.value(v.Elem(), depth)
	case reflect.Pointer:
		if depth >= r.MaxDepth {
			return nil, ErrDepth
		}
		return r.value(v.Elem(), depth+1)
	}
	if leaf, ok, err := r.leaf(v, depth); ok || err != nil {
		return leaf, err
	}
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.String:
		return v.String(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return Integer(new(big.Int).SetUint64(v.Uint())), nil
	case reflect.Float32, reflect.Float64:
		return double(v), nil
	}
	if depth >= r.MaxDepth {
		return nil, ErrDepth
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		return r.list(v, depth)
	case reflect.Map:
		return r.mapping(v, depth)
	case reflect.Struct:
		return r.structure(v, depth)
	}
	return nil, fmt.Errorf("%w for a %v", errKind, v.Type())
}

// leaf handles the types that are not handled by their kind. As in
// encoding/json, methods of a pointer count for an addressable value.
func (r Reflection) leaf(v reflect.Value, depth int) (any, bool, error) {
	candidates := []any{v.Interface()}
	if v.CanAddr() {
		candidates = append(candidates, v.Addr().Interface())
	}
	for _, candidate := range candidates {
		if r.Leaf != nil {
			if leaf, ok, err := r.Leaf(candidate); ok || err != nil {
				return leaf, ok, err
			}
		}
		switch known := candidate.(type) {
		case Symbol:
			return known, true, nil
		case big.Int:
			return Integer(&known), true, nil
		case json.Number:
			n, err := Number(string(known))
			return n, true, err
		case Hash:
			hash, err := r.hash(known, depth)
			return hash, true, err
		case DefaultHash:
			hash, err := r.hash(known.Hash, depth)
			if err != nil {
				return nil, false, err
			}
			value, err := r.value(reflect.ValueOf(known.Default), depth+1)
			return DefaultHash{hash, value}, true, err
		case time.Time:
			return nil, false, fmt.Errorf("%w for a time.Time", errKind)
		case encoding.TextMarshaler:
			text, err := known.MarshalText()
			if err != nil {
				return nil, false, errMarshaler
			}
			return string(text), true, nil
		}
	}
	return nil, false, nil
}

func nilable(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map:
		return true
	}
	return false
}

// Integer returns i as a Ruby value: int64 if it fits.
func Integer(i *big.Int) any {
	if i.IsInt64() {
		return i.Int64()
	}
	return i
}

// Number parses a JSON number: an integer unless it has a fraction or an
// exponent.
func Number(text string) (any, error) {
	if !strings.ContainsAny(text, ".eE") {
		if i, ok := new(big.Int).SetString(text, 10); ok {
			return Integer(i), nil
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	// Ruby reads a number beyond the range of a float as infinity.
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil, errKind
	}
	return f, nil
}

// double converts a Go float to Ruby's only kind. A float32 becomes the double
// of its shortest text: 0.1 stays 0.1.
func double(v reflect.Value) float64 {
	f := v.Float()
	if v.Kind() == reflect.Float32 {
		f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'g', -1, 32), 64)
	}
	return f
}

func (r Reflection) hash(h Hash, depth int) (Hash, error) {
	if depth >= r.MaxDepth {
		return nil, ErrDepth
	}
	out := make(Hash, len(h))
	for i, p := range h {
		key, err := r.value(reflect.ValueOf(p.Key), depth+1)
		if err != nil {
			return nil, err
		}
		value, err := r.value(reflect.ValueOf(p.Value), depth+1)
		if err != nil {
			return nil, err
		}
		out[i] = Pair{key, value}
	}
	return out, nil
}

func (r Reflection) list(v reflect.Value, depth int) (any, error) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		data := make([]byte, v.Len())
		for i := range data { // not reflect.Copy: the bytes may be of a named type
			data[i] = byte(v.Index(i).Uint())
		}
		return data, nil
	}
	list := make([]any, v.Len())
	for i := range list {
		var err error
		if list[i], err = r.value(v.Index(i), depth+1); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (r Reflection) mapping(v reflect.Value, depth int) (any, error) {
	hash := make(Hash, 0, v.Len())
	for entry := v.MapRange(); entry.Next(); {
		key, err := r.value(entry.Key(), depth+1)
		if err != nil {
			return nil, err
		}
		value, err := r.value(entry.Value(), depth+1)
		if err != nil {
			return nil, err
		}
		hash = append(hash, Pair{key, value})
	}
	slices.SortFunc(hash, func(a, b Pair) int { return compareKeys(a.Key, b.Key) })
	return hash, nil
}

// compareKeys orders the keys of a Go map: numbers by size, then text by bytes,
// then all others by how they print.
func compareKeys(a, b any) int {
	i, isInt := a.(int64)
	j, jsInt := b.(int64)
	switch {
	case isInt && jsInt:
		return cmp.Compare(i, j)
	case isInt != jsInt:
		return map[bool]int{true: -1, false: 1}[isInt]
	}
	return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

func (r Reflection) structure(v reflect.Value, depth int) (any, error) {
	fields, err := structFields(v.Type())
	if err != nil {
		return nil, err
	}
	hash := make(Hash, 0, len(fields))
	for _, f := range fields {
		field, err := v.FieldByIndexErr(f.index)
		if err != nil || f.omitEmpty && empty(field) || f.omitZero && zero(field) {
			continue // err: promoted from an embedded pointer that is nil
		}
		value, err := r.value(field, depth+1)
		if err != nil {
			return nil, err
		}
		hash = append(hash, Pair{f.name, value})
	}
	return hash, nil
}

// empty implements omitempty of encoding/json.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// zero implements omitzero of encoding/json.
func zero(v reflect.Value) bool {
	if z, ok := v.Interface().(interface{ IsZero() bool }); ok {
		return nilable(v) && v.IsNil() || z.IsZero()
	}
	return v.IsZero()
}
