package rotatecli

import (
	"database/sql"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// contextShape is what all encryption contexts of a model have in common.
type contextShape struct {
	names []string          // of the pairs, sorted
	fixed map[string]string // pairs whose value is the same for all records
}

// shapeOf compares the contexts of two records that differ in their primary keys and in
// the columns tagged context.
func shapeOf(m field.Adapter[any], keyColumn string, version int) (shape contextShape, err error) {
	var pairs [2]map[string]string
	for i := range pairs {
		if pairs[i], err = contextOfSample(m, keyColumn, version, i+1); err != nil {
			return shape, fmt.Errorf("%w: version %d does not tell the context of a record that is not there; name its pairs with --pair: %w", ErrUsage, version, err)
		}
	}
	shape.fixed = maps.Clone(pairs[0])
	maps.DeleteFunc(shape.fixed, func(name, value string) bool { return pairs[1][name] != value })
	shape.names = slices.Sorted(maps.Keys(pairs[0]))
	return shape, nil
}

func contextOfSample(m field.Adapter[any], keyColumn string, version, n int) (map[string]string, error) {
	row := reflect.New(m.RowType()).Interface()
	if err := m.Scan(sampleRow{slices.Concat(m.IDColumns(), m.ContextColumns()), n}, &row); err != nil {
		return nil, err
	}
	ec := m.Binding(keyColumn, &row).Context
	if versioned, ok := ec.(kmsencrypted.VersionedContext); ok {
		var err error
		if ec, err = versioned(version); err != nil {
			return nil, err
		}
	}
	bound, err := kmsencrypted.Bind(ec)
	if err != nil {
		return nil, err
	}
	return bound.Map()
}

// sampleRow is a row with made-up values, which differ by its number.
type sampleRow struct {
	columns []string
	n       int
}

func (s sampleRow) Columns() ([]string, error) { return s.columns, nil }

// Scan fills each target, a pointer to a pointer to the field.
func (s sampleRow) Scan(targets ...any) error {
	for i, target := range targets {
		v := reflect.ValueOf(target).Elem()
		if v.Kind() == reflect.Pointer {
			v.Set(reflect.New(v.Type().Elem()))
			v = v.Elem()
		}
		if err := s.fill(v); err != nil {
			return fmt.Errorf("column %s: %w", s.columns[i], err)
		}
	}
	return nil
}

func (s sampleRow) fill(v reflect.Value) error {
	for v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if scanner, ok := v.Addr().Interface().(sql.Scanner); ok {
		uuid := fmt.Sprintf("00000000-0000-4000-8000-%012d", s.n)
		err := scanner.Scan(uuid)
		for _, other := range []any{strconv.Itoa(s.n), int64(s.n)} {
			if err != nil {
				err = scanner.Scan(other)
			}
		}
		return err
	}
	switch {
	case v.CanInt():
		v.SetInt(int64(s.n))
	case v.CanUint():
		v.SetUint(uint64(s.n))
	case v.Kind() == reflect.String:
		v.SetString(strconv.Itoa(s.n))
	case v.Kind() == reflect.Bool:
		v.SetBool(s.n%2 == 0)
	case v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8:
		v.Index(v.Len() - 1).SetUint(uint64(s.n))
	default:
		return fmt.Errorf("no example of %s", v.Type())
	}
	return nil
}

// shapeOfPairs is what --pair says.
func shapeOfPairs(pairs []string) contextShape {
	shape := contextShape{fixed: make(map[string]string)}
	for _, pair := range pairs {
		name, value, fixed := strings.Cut(pair, "=")
		shape.names = append(shape.names, name)
		if fixed {
			shape.fixed[name] = value
		}
	}
	slices.Sort(shape.names)
	return shape
}

// shapeOfBranches is that of the rows of a key store (spec/branch.md section 4).
func shapeOfBranches(store string) contextShape {
	return contextShape{names: []string{"branch", "created", "store", "version"}, fixed: map[string]string{"store": store}}
}
