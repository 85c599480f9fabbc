package field_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

type holding[T any] struct {
	ID  int64       `db:"id"`
	Key field.Key   `db:"encrypted_kms_key"`
	V   field.Of[T] `db:"v_ciphertext"`
}

// sealValue returns what sealing a value says.
func sealValue[T any](t *testing.T, v T, types ...field.Type) (holding[T], error) {
	t.Helper()
	r := holding[T]{ID: 1, V: field.New(v)}
	m := newAnyModel(t, nativeBox(t, kmsencrypted.Version{Provider: newMemoryKey()}), &r, field.Config{Table: "t", Types: types})
	return r, m.seal(t, &r)
}

type event struct{ Amount any }

// What a value loses is refused before it is written, and the error does not hold it.
func TestLossyValues(t *testing.T) {
	t.Parallel()
	for name, seal := range map[string]func() error{
		"latin1 in a struct": func() error { _, err := sealValue(t, note{"caf\xe9"}); return err },
		"latin1 in a list":   func() error { _, err := sealValue(t, []string{"caf\xe9"}); return err },
		"integer in an any":  func() error { _, err := sealValue(t, event{int64(9007199254740993)}); return err },
		"slice in an any":    func() error { _, err := sealValue(t, event{[]string{"a"}}); return err },
		"slice as an any":    func() error { _, err := sealValue[any](t, []string{"a"}); return err },
		"struct as an any":   func() error { _, err := sealValue[any](t, note{"x"}); return err },
		"UUID as an any":     func() error { _, err := sealValue[any](t, uuid.New()); return err },
		"latin1 as an any":   func() error { _, err := sealValue[any](t, "caf\xe9"); return err },
	} {
		err := seal()
		if !errors.Is(err, kmsencrypted.ErrLossy) || errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(err.Error(), "v_ciphertext") {
			t.Errorf("Seal(%s) = %v, want ErrLossy for v_ciphertext", name, err)
		}
	}
	for name, seal := range map[string]func() error{
		"latin1 text":            func() error { _, err := sealValue(t, "caf\xe9"); return err },
		"small number in an any": func() error { _, err := sealValue(t, event{7}); return err },
		"integer in a map":       func() error { _, err := sealValue(t, map[string]any{"n": int64(9007199254740993)}); return err },
		"a type that may lose": func() error {
			_, err := sealValue(t, note{"x"}, field.TypeOf("forgetful", func(note) ([]byte, error) { return nil, nil }, func([]byte) (note, error) { return note{}, nil }).Unchecked())
			return err
		},
	} {
		if err := seal(); err != nil {
			t.Errorf("Seal(%s) = %v", name, err)
		}
	}
	r, err := sealValue(t, uuid.NullUUID{})
	if got := column(t, r.V); got != nil || err != nil {
		t.Errorf("uuid.NullUUID that is not valid: %v, %v, want NULL", got, err)
	}
	if r, err := sealValue(t, uuid.NullUUID{UUID: uuid.New(), Valid: true}); err != nil || column(t, r.V) == nil {
		t.Errorf("uuid.NullUUID that is valid: %v", err)
	}
}

// A number behind an any comes back with its value, however large it is.
func TestNumbersBehindAny(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want any }{
		{int64(1<<53 + 1), int64(1<<53 + 1)},
		{int64(-(1<<53 + 1)), int64(-(1<<53 + 1))},
		{uint64(1<<63 + 5), new(big.Int).SetUint64(1<<63 + 5)},
		{new(big.Int).Lsh(big.NewInt(1), 80), new(big.Int).Lsh(big.NewInt(1), 80)},
		{json.Number("9007199254740993"), int64(9007199254740993)},
		{0.1, 0.1},
	} {
		m := newModel[holding[any]](t, nativeBox(t, kmsencrypted.Version{Provider: newMemoryKey()}), field.Config{Table: "t"})
		r := holding[any]{ID: 1, V: field.New(c.in)}
		must(t, m.Seal(t.Context(), &r))
		var back holding[any]
		copyColumns(t, &back, &r)
		must(t, m.Open(t.Context(), &back))
		if got := back.V.Must(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%T %v comes back as %T %v, want %T", c.in, c.in, got, got, c.want)
		}
	}
}

func modelFault[T any](t *testing.T) error {
	_, err := field.NewDynamicModel(nativeBox(t, kmsencrypted.Version{Provider: newMemoryKey()}), reflect.TypeFor[holding[T]](), field.Config{Table: "t"})
	return err
}

// What a type loses is refused by NewModel.
func TestLossyTypes(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"url":            modelFault[url.URL](t),
		"pointer to url": modelFault[*url.URL](t),
		"unexported":     modelFault[struct{ value string }](t),
		"atomic":         modelFault[*atomic.Int64](t),
		"interface":      modelFault[struct{ E error }](t),
		"keys":           modelFault[map[bool]int](t),
		"channel":        modelFault[[]chan int](t),
		"hidden": modelFault[struct {
			A int `json:"-"`
		}](t),
	} {
		if !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("NewModel with %s = %v, want ErrConfig", name, err)
		}
	}
}
