package field

import (
	"encoding/json"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
)

// numeric is a number of any Go type.
type numeric struct {
	exact   *big.Int // of an integer
	decimal string   // of other numbers: the shortest text that reads back the same, as in JSON
}

// numberOf returns the number in a value of any type.
func numberOf(v reflect.Value) (n numeric, ok bool) {
	if !v.IsValid() || !v.CanInterface() {
		return n, false
	}
	switch known := v.Interface().(type) {
	case json.Number:
		return textNumber(string(known))
	case *big.Int:
		return numeric{exact: known}, known != nil
	}
	switch {
	case v.CanInt():
		return numeric{exact: big.NewInt(v.Int())}, true
	case v.CanUint():
		return numeric{exact: new(big.Int).SetUint64(v.Uint())}, true
	case v.CanFloat():
		return numeric{decimal: strconv.FormatFloat(v.Float(), 'e', -1, v.Type().Bits())}, true
	}
	return n, false
}

func textNumber(text string) (n numeric, ok bool) {
	if !strings.ContainsAny(text, ".eE") {
		i, ok := new(big.Int).SetString(text, 10)
		return numeric{exact: i}, ok
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return n, false
	}
	shortest := strconv.FormatFloat(f, 'e', -1, 64)
	if digitsOf(text) != digitsOf(shortest) {
		return numeric{decimal: text}, true // more digits than a float holds
	}
	return numeric{decimal: shortest}, true
}

// digitsOf returns the digits of a decimal text without leading and trailing
// zeros.
func digitsOf(text string) string {
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	return strings.Trim(strings.NewReplacer(".", "", "-", "", "+", "").Replace(mantissa), "0")
}

func (m numeric) same(n numeric) bool {
	switch {
	case m.exact != nil && n.exact != nil:
		return m.exact.Cmp(n.exact) == 0
	case m.exact != nil:
		return n.isInteger(m.exact)
	case n.exact != nil:
		return m.isInteger(n.exact)
	}
	return m.decimal == n.decimal
}

// isInteger reports whether a number without an integer type has the value i.
func (m numeric) isInteger(i *big.Int) bool {
	f, err := strconv.ParseFloat(m.decimal, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) || f != math.Trunc(f) {
		return false
	}
	whole, _ := new(big.Float).SetFloat64(f).Int(nil)
	return whole.Cmp(i) == 0
}
