package rubycompat

import (
	"math/big"
	"reflect"
	"strconv"
)

// AppendScalar appends the to_s of a Go string, []byte, integer, float or
// *big.Int. ok is false for every other type. The caller handles booleans,
// because Rails and Ruby write them differently.
func AppendScalar(dst []byte, value any) (out []byte, ok bool) {
	switch v := value.(type) {
	case string:
		return append(dst, v...), true
	case []byte:
		return append(dst, v...), true
	case *big.Int:
		if v == nil {
			return dst, false
		}
		return v.Append(dst, 10), true
	}
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.String:
		return append(dst, v.String()...), true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(dst, v.Int(), 10), true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(dst, v.Uint(), 10), true
	case reflect.Float32, reflect.Float64:
		return AppendFloat(dst, double(v)), true
	}
	return dst, false
}
