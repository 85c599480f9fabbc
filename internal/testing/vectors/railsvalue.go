package vectors

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// The Go names of the Rails application's models, and the comparison of their
// values with the manifest.

// railsFields are the fields of attributes whose names are not just capitalised.
var railsFields = map[string]string{
	"signed_at": "SignedAt", "opens_at": "OpensAt", "seen_at": "SeenAt", "ssn": "SSN", "pin": "PIN", "uuid": "UUID", "iban": "IBAN", "ip": "",
}

// RailsField returns the Go field of an attribute, or "" for an attribute without
// test.
func RailsField(attribute string) string {
	if name, ok := railsFields[attribute]; ok {
		return name
	}
	if attribute == "" {
		return ""
	}
	return strings.ToUpper(attribute[:1]) + attribute[1:]
}

// RailsPlain returns the value of a field, encrypted or not, without pointers; nil
// means NULL.
func RailsPlain(v reflect.Value) (any, error) {
	if !v.IsValid() {
		return nil, errors.New("no such field")
	}
	if get := v.MethodByName("Get"); get.IsValid() {
		out := get.Call(nil)
		if err, _ := out[1].Interface().(error); err != nil {
			return nil, err
		}
		v = out[0]
	}
	if v.Kind() == reflect.Struct {
		if valid := v.FieldByName("Valid"); valid.IsValid() {
			if !valid.Bool() {
				return nil, nil
			}
			v = v.Field(0)
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil, nil
		}
		return v.Elem().Interface(), nil
	case reflect.Slice, reflect.Map:
		if v.IsNil() {
			return nil, nil
		}
	}
	return v.Interface(), nil
}

// railsTypes are the types of values that Check knows.
var railsTypes = []string{"nil", "string", "boolean", "integer", "decimal", "inet", "float", "date", "time", "binary", "json"}

// Check compares a value with what Rails wrote.
func (want RailsValue) Check(got any) error {
	var text string
	_ = json.Unmarshal(want.V, &text) // not all are texts
	var same bool
	switch want.Type {
	case "nil":
		same = got == nil
	case "string":
		same = got == text
	case "boolean":
		same = fmt.Sprint(got) == string(want.V)
	case "integer":
		same = fmt.Sprint(got) == text
	case "decimal", "inet":
		same = fmt.Sprint(got) == text
	case "float":
		f, ok := got.(float64)
		bits, err := hex.DecodeString(text)
		same = ok && err == nil && fmt.Sprintf("%016x", math.Float64bits(f)) == hex.EncodeToString(bits)
	case "date":
		d, ok := got.(time.Time)
		same = ok && d.Format(time.DateOnly) == text
	case "time":
		at, ok := got.(time.Time)
		wantAt, err := time.Parse(time.RFC3339Nano, text)
		same = ok && err == nil && at.Truncate(time.Microsecond).Equal(wantAt.Truncate(time.Microsecond))
	case "binary":
		b, ok := got.([]byte)
		same = ok && base64.StdEncoding.EncodeToString(b) == text
	case "json":
		same = sameJSON(got, want.V)
	default:
		return fmt.Errorf("unknown type %q", want.Type)
	}
	if !same {
		return fmt.Errorf("got %v (%T), want %s %s", got, got, want.Type, want.V)
	}
	return nil
}

// sameJSON compares by meaning. An empty hash or array column is NULL.
func sameJSON(got any, want json.RawMessage) bool {
	plain, err := rubycompat.Plain(got)
	if err != nil {
		return false
	}
	data, err := json.Marshal(plain)
	if err != nil {
		return false
	}
	var a, b any
	if json.Unmarshal(data, &a) != nil || json.Unmarshal(want, &b) != nil {
		return false
	}
	empty := reflect.DeepEqual(b, map[string]any{}) || reflect.DeepEqual(b, []any{})
	return reflect.DeepEqual(a, b) || got == nil && empty
}
