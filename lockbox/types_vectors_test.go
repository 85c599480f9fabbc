package lockbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox/rubyyaml"
)

// typeNames are the names in the file that are not names of types.
var typeNames = map[string]string{
	"untyped": "", "padded": "string", "serjson": "json", "seryaml": "hash", "store": "store",
}

func typeOf(t *testing.T, name string) lockbox.Type {
	t.Helper()
	if known, ok := typeNames[name]; ok {
		name = known
	}
	typ, err := lockbox.ParseType(name, rubyyaml.Codec{})
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// target is a pointer to the Go type of a type.
func target(t *testing.T, name string) any {
	t.Helper()
	if known, ok := typeNames[name]; ok {
		name = known
	}
	switch name {
	case "", "string":
		return new(string)
	case "binary":
		return new([]byte)
	case "boolean":
		return new(bool)
	case "date", "datetime", "time":
		return new(time.Time)
	case "integer":
		return new(int64)
	case "float":
		return new(float64)
	case "decimal":
		return new(lockbox.Decimal)
	case "inet":
		return new(netip.Prefix)
	case "hash", "store":
		return new(lockbox.Hash)
	case "array":
		return new([]any)
	}
	return new(any)
}

// goValue is a Ruby value of a vector as the Go value of a type; ok is false for
// one that only Ruby's casts make fit.
func goValue(t *testing.T, name string, v vectors.Value) (value any, ok bool) {
	t.Helper()
	switch {
	case v.Kind == "nil":
		return nil, true
	case name == "padded" || name == "string":
		if v.Kind == "bin" { // in another encoding, or invalid
			return string(v.Bytes), true
		}
		return v.Text, v.Kind == "s"
	case name == "untyped":
		return plainValue(t, v), true
	case name == "binary":
		if v.Kind == "bin" {
			return v.Bytes, true
		}
		return []byte(v.Text), v.Kind == "s"
	case name == "boolean":
		return v.Bool, v.Kind == "bool"
	case name == "date":
		return dateOf(t, v.Text), v.Kind == "date"
	case name == "datetime" || name == "time":
		if v.Kind != "time" {
			return nil, false
		}
		return timeOf(t, v.Text), true
	case name == "inet":
		prefix, err := netip.ParsePrefix(v.Text)
		if addr, addrErr := netip.ParseAddr(v.Text); addrErr == nil {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		return prefix, err == nil
	case name == "integer":
		n, err := strconv.ParseInt(v.Text, 10, 64)
		return n, v.Kind == "i" && err == nil
	case name == "float":
		return plainValue(t, v), v.Kind == "f"
	case name == "decimal":
		return lockbox.Decimal(v.Text), v.Kind == "decimal"
	case name == "json" || name == "serjson" || name == "store":
		return jsonValue(t, v), true
	}
	return plainValue(t, v), true
}

// jsonValue is [plainValue] for JSON, to which bytes are text.
func jsonValue(t *testing.T, v vectors.Value) any {
	t.Helper()
	switch {
	case v.Kind == "bin":
		return string(v.Bytes)
	case v.Kind == "datetime": // another class for an instant, in another text
		return timeOf(t, v.Text).Format("2006-01-02T15:04:05.000-07:00")
	case v.Kind == "a":
		list := make([]any, len(v.List))
		for i := range list {
			list[i] = jsonValue(t, v.List[i])
		}
		return list
	case v.Kind == "h":
		hash := make(lockbox.Hash, len(v.Pairs))
		for i, p := range v.Pairs {
			hash[i] = lockbox.Pair{Key: jsonValue(t, p[0]), Value: jsonValue(t, p[1])}
		}
		return hash
	}
	return plainValue(t, v)
}

// plainValue is a Ruby value in Go.
func plainValue(t *testing.T, v vectors.Value) any {
	t.Helper()
	switch v.Kind {
	case "nil":
		return nil
	case "bool":
		return v.Bool
	case "sym":
		return lockbox.Symbol(v.Text)
	case "i":
		n, ok := new(big.Int).SetString(v.Text, 10)
		if !ok {
			t.Fatalf("integer %q", v.Text)
		}
		if n.IsInt64() {
			return n.Int64()
		}
		return n
	case "f":
		f, err := strconv.ParseFloat(v.Text, 64)
		if err != nil {
			t.Fatal(err)
		}
		return f
	case "decimal":
		return lockbox.Decimal(v.Text)
	case "time":
		return timeOf(t, v.Text)
	case "date":
		day := dateOf(t, v.Text)
		return rubyyaml.Date{Year: day.Year(), Month: day.Month(), Day: day.Day()}
	case "bin":
		if v.Enc != "" {
			return string(v.Bytes)
		}
		return v.Bytes
	case "a":
		list := make([]any, len(v.List))
		for i := range list {
			list[i] = plainValue(t, v.List[i])
		}
		return list
	case "h":
		hash := make(lockbox.Hash, len(v.Pairs))
		for i, p := range v.Pairs {
			hash[i] = lockbox.Pair{Key: plainValue(t, p[0]), Value: plainValue(t, p[1])}
		}
		return hash
	}
	return v.Text
}

func timeOf(t *testing.T, text string) time.Time {
	t.Helper()
	// Years have any number of digits in Ruby, and four in package time.
	digits := 1 + strings.IndexByte(text[1:], '-')
	year, err := strconv.Atoi(text[:digits])
	if err != nil {
		t.Fatal(err)
	}
	value, err := time.Parse(time.RFC3339Nano, "2000"+text[digits:])
	if err != nil {
		t.Fatal(err)
	}
	return value.AddDate(year-2000, 0, 0)
}

func dateOf(t *testing.T, text string) time.Time {
	t.Helper()
	var year, month, day int
	if _, err := fmt.Sscanf(text, "%d-%d-%d", &year, &month, &day); err != nil {
		return time.Time{}
	}
	return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
}

// same compares values as Ruby would read them: JSON without the order and kind
// of keys, NaN equal to itself, times as instants.
func same(a, b any) bool {
	switch a := a.(type) {
	case float64:
		b, ok := b.(float64)
		return ok && (math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b))
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b)
	}
	return reflect.DeepEqual(unordered(a), unordered(b))
}

func unordered(v any) any {
	switch v := v.(type) {
	case float64: // zero has a sign, and NaN equals itself
		return fmt.Sprintf("%v %t", v, math.Signbit(v))
	case lockbox.Hash:
		m := make(map[string]any)
		for _, p := range v {
			m[fmt.Sprintf("%#v", p.Key)] = unordered(p.Value)
		}
		return m
	case map[string]any:
		m := make(map[string]any)
		for key, value := range v {
			m[fmt.Sprintf("%#v", key)] = unordered(value)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = unordered(v[i])
		}
		return list
	}
	return v
}

func TestTypeVectors(t *testing.T) {
	t.Parallel()
	const file = "lockbox_types.json"
	var v struct {
		MasterKey string `json:"master_key"`
		Table     string `json:"table"`
		Cases     []struct {
			Type      string           `json:"type"`
			Input     vectors.Value    `json:"input"`
			Stored    *string          `json:"stored"`
			Plaintext *vectors.Stored  `json:"plaintext"`
			Read      vectors.Value    `json:"read"`
			Error     *vectors.Failure `json:"error"`
		} `json:"cases"`
		Reads []struct {
			Type      string           `json:"type"`
			Plaintext vectors.Stored   `json:"plaintext"`
			Read      vectors.Value    `json:"read"`
			Error     *vectors.Failure `json:"error"`
		} `json:"reads"`
	}
	vectors.Load(t, file, &v)
	master, err := lockbox.ParseMasterKey(v.MasterKey)
	if err != nil {
		t.Fatal(err)
	}

	for i, c := range v.Cases {
		name := fmt.Sprintf("case %d, type %s", i, c.Type)
		typ := typeOf(t, c.Type)
		if c.Error != nil {
			value := plainValue(t, c.Input)
			if _, _, err := typ.Append(nil, value); !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("%s: Append(%v) = %v, want ErrConfig", name, value, err)
			}
			continue
		}
		key, err := master.AttributeKey(v.Table, c.Type+"_v_ciphertext")
		if err != nil {
			t.Fatal(err)
		}
		padding := 0
		if c.Type == "padded" {
			padding = 16
		}
		box, err := lockbox.New(key, lockbox.Options{Padding: padding})
		if err != nil {
			t.Fatal(err)
		}
		column := lockbox.Column{Box: box}

		// What Ruby stored is read as Ruby reads it.
		null := c.Stored == nil
		into := target(t, c.Type)
		var plaintext []byte
		if !null {
			if plaintext, err = column.Open(nil, []byte(*c.Stored), nil); err != nil {
				t.Errorf("%s: Open = %v", name, err)
				continue
			}
			if c.Plaintext != nil && !bytes.Equal(plaintext, c.Plaintext.Bytes) {
				t.Errorf("%s: Open = %q, want %q", name, plaintext, c.Plaintext.Bytes)
			}
			if null, err = typ.Parse(plaintext, into); err != nil {
				t.Errorf("%s: Parse(%q) = %v", name, plaintext, err)
			}
		}
		checkRead(t, name, c.Type, into, null, c.Read)

		// The value gives the same plaintext. Inputs that only Ruby's casts make fit
		// are replaced by what they were read as; a DateTime, whose text ends in
		// +00:00, is another class for the same instant.
		if c.Input.Kind == "datetime" && c.Type == "datetime" {
			c.Plaintext.Bytes = []byte(strings.TrimSuffix(string(c.Plaintext.Bytes), "+00:00") + "Z")
		}
		value, ok := goValue(t, c.Type, c.Input)
		if !ok {
			value, _ = goValue(t, c.Type, c.Read)
		}
		got, null, err := typ.Append(nil, value)
		if err != nil || null != (c.Stored == nil) {
			t.Errorf("%s: Append(%v) = %q, null %v, %v, want null %v", name, value, got, null, err, c.Stored == nil)
			continue
		}
		if null {
			continue
		}
		if c.Plaintext == nil {
			c.Plaintext = new(vectors.Stored)
		}
		switch typ.String() {
		case "hash", "array":
			again := target(t, c.Type)
			if _, err := typ.Parse(got, again); err != nil || !same(reflect.ValueOf(again).Elem().Interface(), plainValue(t, c.Read)) &&
				!same(reflect.ValueOf(again).Elem().Interface(), value) { // Psych writes binary strings that are ASCII as text

				t.Errorf("%s: Parse(Append(%#v)) = %#v, %v", name, value, reflect.ValueOf(again).Elem(), err)
			}
		default:
			if !bytes.Equal(got, c.Plaintext.Bytes) {
				t.Errorf("%s: Append(%v) = %q, want %q", name, value, got, c.Plaintext.Bytes)
			}
		}

		// The empty string is stored as it is, unless there is padding.
		sealed, err := column.Seal(nil, got, nil)
		if err != nil || (len(sealed) == 0) != (*c.Stored == "") {
			t.Errorf("%s: Seal(%q) = %q, %v", name, got, sealed, err)
		}
	}

	for i, c := range v.Reads {
		name := fmt.Sprintf("read %d, type %s", i, c.Type)
		into := target(t, c.Type)
		null, err := typeOf(t, c.Type).Parse(c.Plaintext.Bytes, into)
		if c.Error != nil {
			if !errors.Is(err, kmsencrypted.ErrMalformed) {
				t.Errorf("%s: Parse(%q) = %v, want ErrMalformed", name, c.Plaintext.Bytes, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: Parse(%q) = %v", name, c.Plaintext.Bytes, err)
			continue
		}
		checkRead(t, name, c.Type, into, null, c.Read)
	}
	vectors.Ran(t, file, len(v.Cases)+len(v.Reads))
}

// checkRead compares what was read into a target with what Ruby read.
func checkRead(t *testing.T, name, typ string, into any, null bool, want vectors.Value) {
	t.Helper()
	if want.Kind == "nil" {
		if !null {
			t.Errorf("%s: read %v, want null", name, reflect.ValueOf(into).Elem())
		}
		return
	}
	expected, _ := goValue(t, typ, want)
	if null {
		// Ruby reads NULL as empty where a hash or a list is meant.
		if v := reflect.ValueOf(expected); v.Kind() != reflect.Slice || v.Len() != 0 {
			t.Errorf("%s: read null, want %v", name, expected)
		}
		return
	}
	if want.Kind == "bin" {
		expected = want.Bytes
		if _, isText := into.(*string); isText {
			expected = string(want.Bytes)
		}
	}
	if got := reflect.ValueOf(into).Elem().Interface(); !same(got, expected) {
		t.Errorf("%s: read %#v, want %#v", name, got, expected)
	}
}
