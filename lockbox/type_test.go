package lockbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

func mustType(t testing.TB, name string) Type {
	t.Helper()
	typ, err := ParseType(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// What Rails reads in texts that it did not write itself, found by running
// ActiveModel; "" is nil.
func TestParseTimes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, date, datetime, time string }{
		{"2020-02-30", "", "2020-03-01T00:00:00Z", ""},
		{"2021-02-29 10:00", "", "2021-03-01T10:00:00Z", "2000-01-01T10:00:00Z"},
		{"2020-13-01", "", "", ""},
		{"24:00", "", "", "2000-01-02T00:00:00Z"},
		{"24:00:01", "", "", ""},
		{"23:59:60", "", "", "2000-01-02T00:00:00Z"},
		{"0000-00-00 00:00:00", "", "", "2000-01-01T00:00:00Z"},
		{"'20", "", "2020-01-01T00:00:00Z", ""},
		{"Feb 2001", "", "2001-02-01T00:00:00Z", ""},
		{"2020", "", "", ""},
		{"3:04:05.5", "", "", "2000-01-01T03:04:05.0000005Z"},
		{"03:04:05.123456789", "", "", "2000-01-01T03:04:05.123456Z"},
		{"3:04 EST", "", "", "2000-01-01T08:04:00Z"},
		{"2020-01-02T03:04:05.1234567-03:30", "2020-01-02", "2020-01-02T06:34:05.123456Z", "2000-01-01T06:34:05.123456Z"},
		{"2020-01-02 03:04:05 +09:00", "2020-01-02", "2020-01-01T18:04:05Z", "1999-12-31T18:04:05Z"},
		{"1/2/2020 3:04pm", "2020-02-01", "2020-02-01T15:04:00Z", "2000-01-01T15:04:00Z"},
		{"Thu, 02 Jan 2020 03:04:05 GMT", "2020-01-02", "2020-01-02T03:04:05Z", "2020-01-02T03:04:05Z"},
		{"20200102T030405Z", "2020-01-02", "2020-01-02T03:04:05Z", ""},
		{"31/12/1999", "1999-12-31", "1999-12-31T00:00:00Z", ""},
		{"1582-10-10", "", "1582-10-10T00:00:00Z", ""},
		{"25:00", "", "", ""},
		{"bad", "", "", ""},
		{" ", "", "", ""},
		{"", "", "", ""},
		{strings.Repeat("2020-01-02 ", 20), "", "", ""},
	} {
		for name, want := range map[string]string{"date": c.date, "datetime": c.datetime, "time": c.time} {
			var v time.Time
			null, err := mustType(t, name).Parse([]byte(c.in), &v)
			got := v.Format(time.RFC3339Nano)
			if name == "date" {
				got = v.Format(time.DateOnly)
			}
			if null {
				got = ""
			}
			if err != nil || got != want {
				t.Errorf("type %s: Parse(%q) = %s, %v, want %q", name, c.in, got, err, want)
			}
		}
	}
	for name, in := range map[string]string{
		"date":     "1500-02-29", // of the Julian calendar
		"datetime": "2020-01-02 03:04:05 NPT",
		"time":     "3:04 NPT",
	} {
		var v time.Time
		if null, err := mustType(t, name).Parse([]byte(in), &v); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("type %s: Parse(%q) = %v, null %v, %v, want ErrMalformed", name, in, v, null, err)
		}
	}
}

func TestDecimal(t *testing.T) {
	t.Parallel()
	// What Ruby's to_d makes of a text.
	for in, want := range map[string]string{
		" 1.5 ": "1.5", "1.": "1.0", "1.e3": "1000.0", ".5": "0.5", "-.5": "-0.5", "+1": "1.0", "--1": "-0.0",
		"1_000.5": "1000.5", "1__0": "1.0", "_1": "0.0", "1_.5": "1.0", "1._5": "1.0", "1.5_1": "1.51",
		"1e": "1.0", "1e+": "1.0", "1e-3": "0.001", "1d3": "1000.0", "1.5abc": "1.5", "0x1f": "0.0", "abc": "0.0",
		"Infinity": "Infinity", "+Infinity": "Infinity", "-Infinity": "-Infinity", "NaN ": "NaN", "NaNx": "0.0", "infinity": "0.0",
		"-0.00": "-0.0", "00012.50": "12.5", "1,5": "1.0", "1\x002": "0.0", "-": "-0.0", "1.2.3": "1.2",
		"12345678901234567890.123456789012345678901234567890": "12345678901234567890.12345678901234567890123456789",
	} {
		var d Decimal
		if null, err := mustType(t, "decimal").Parse([]byte(in), &d); err != nil || null || string(d) != want {
			t.Errorf("Parse(%q) = %s, %v, %v, want %s", in, d, null, err, want)
		}
	}
	var d Decimal
	if null, err := mustType(t, "decimal").Parse([]byte(" "), &d); err != nil || !null {
		t.Errorf("Parse(blank) = %s, %v, %v, want null", d, null, err)
	}
	for _, in := range []string{"1e5000000000", "1e-99999999999999999999", "1" + strings.Repeat("0", maxDecimal+1)} {
		if _, err := mustType(t, "decimal").Parse([]byte(in), &d); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("Parse(%.20q) = %v, want ErrMalformed", in, err)
		}
	}
	for _, in := range []string{"", "abc", "1.5x", "1 2", "0x1f", "-", "NaNs"} {
		if got, err := ParseDecimal(in); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("ParseDecimal(%q) = %s, %v, want ErrConfig", in, got, err)
		}
		if got, _, err := mustType(t, "decimal").Append(nil, Decimal(in)); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Append(Decimal(%q)) = %s, %v, want ErrConfig", in, got, err)
		}
	}
	for _, want := range []string{"1.5", "-0.001", "1000.0", "123456789.123456789"} {
		r, ok := Decimal(want).Rat()
		if !ok {
			t.Fatalf("Decimal(%s).Rat() failed", want)
		}
		if got, err := DecimalOf(r); err != nil || string(got) != want {
			t.Errorf("DecimalOf(%v) = %s, %v, want %s", r, got, err, want)
		}
	}
	if got, err := DecimalOf(big.NewRat(1, 3)); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("DecimalOf(1/3) = %s, %v, want ErrConfig", got, err)
	}
	if r, ok := Decimal("NaN").Rat(); ok {
		t.Errorf("Decimal(NaN).Rat() = %v", r)
	}
}

type address struct {
	Street string `json:"street"`
	Lines  []string
}

type base struct {
	ID int64 `json:"id"`
}

type person struct {
	base
	Name    string    `json:"name"`
	Height  float64   `json:"height"`
	Born    time.Time `json:"born"`
	Address *address  `json:"address,omitempty"`
	Score   float32   `json:"score"`
	Balance Decimal   `json:"balance"`
	Net     netip.Addr
	Note    any            `json:"note"`
	Tags    map[int]string `json:"tags,omitempty"`
	Ignored string         `json:"-"`
}

func TestJSON(t *testing.T) {
	t.Parallel()
	born := time.Date(1815, 12, 10, 1, 2, 3, 456789000, time.FixedZone("", -3600))
	for _, c := range []struct {
		in   any
		want string
	}{
		{1.0, "1.0"}, {1e-7, "1.0e-07"}, {1e20, "1.0e+20"}, {math.NaN(), "null"}, {float32(0.1), "0.1"},
		{uint64(math.MaxUint64), "18446744073709551615"},
		{"<&>\u2028/é", `"\u003c\u0026\u003e\u2028/é"`},
		{[]byte{1, 2}, `"AQI="`},
		{Decimal("1.50"), `"1.5"`},
		{Symbol("sym"), `"sym"`},
		{json.Number("1.50"), "1.5"}, {json.Number("7"), "7"},
		{json.RawMessage(`{"b": 1, "a": "<"}`), `{"b":1,"a":"\u003c"}`},
		{Hash{{Key: "z", Value: 1}, {Key: Symbol("a"), Value: nil}, {Key: int64(3), Value: true}}, `{"z":1,"a":null,"3":true}`},
		{map[string]any{"b": 1, "a": []any{}}, `{"a":[],"b":1}`},
		{[]any{nil, map[string]int(nil), []int(nil)}, `[null,null,null]`},
		{&person{base: base{7}, Name: "Ada", Height: 2, Born: born, Score: 0.5, Balance: "3.0", Net: netip.MustParseAddr("::1"), Note: 1.0, Tags: map[int]string{10: "x", 9: "y"}},
			`{"id":7,"name":"Ada","height":2.0,"born":"1815-12-10T01:02:03.456-01:00","score":0.5,"balance":"3.0","Net":"::1","note":1.0,"tags":{"9":"y","10":"x"}}`},
		{person{Address: &address{Street: "x"}, Net: netip.MustParseAddr("::1"), Balance: "0.0"},
			`{"id":0,"name":"","height":0.0,"born":"0001-01-01T00:00:00.000Z","address":{"street":"x","Lines":null},"score":0.0,"balance":"0.0","Net":"::1","note":null}`},
	} {
		got, null, err := mustType(t, "json").Append(nil, c.in)
		if err != nil || null || string(got) != c.want {
			t.Errorf("Append(%#v) = %s, %v, want %s", c.in, got, err, c.want)
		}
	}
	endless := map[string]any{}
	endless["self"] = endless
	var deep any = []any{}
	for range maxJSONDepth {
		deep = []any{deep}
	}
	for name, v := range map[string]any{
		"channel": make(chan int), "function": func() {}, "endless": endless, "too deep": deep, "invalid UTF-8": "\xff",
		"marshaler that fails": json.RawMessage("{"), "list as key": Hash{{Key: []any{1}, Value: 2}},
	} {
		if got, _, err := mustType(t, "json").Append(nil, v); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Append(%s) = %s, %v, want ErrConfig", name, got, err)
		}
	}
	if _, null, err := mustType(t, "json").Append(nil, (*person)(nil)); err != nil || !null {
		t.Errorf("Append(nil pointer) = null %v, %v, want null", null, err)
	}
}

func TestParseJSON(t *testing.T) {
	t.Parallel()
	typ := mustType(t, "json")
	big64, _ := new(big.Int).SetString("18446744073709551616", 10)
	for in, want := range map[string]any{
		`{"b":1,"a":[1.0,null,"x"]}`: map[string]any{"b": int64(1), "a": []any{1.0, nil, "x"}},
		`18446744073709551616`:       big64,
		`1e3`:                        1000.0,
		`{"a":1,"a":2}`:              map[string]any{"a": int64(2)},
		` "s" `:                      "s",
	} {
		var got any
		if null, err := typ.Parse([]byte(in), &got); err != nil || null || !reflect.DeepEqual(got, want) {
			t.Errorf("Parse(%s) = %#v, %v, want %#v", in, got, err, want)
		}
	}
	var ordered Hash
	if _, err := typ.Parse([]byte(`{"b":1,"a":{"d":1,"c":2},"b":3}`), &ordered); err != nil ||
		!reflect.DeepEqual(ordered, Hash{{Key: "b", Value: int64(3)}, {Key: "a", Value: Hash{{Key: "d", Value: int64(1)}, {Key: "c", Value: int64(2)}}}}) {
		t.Errorf("Parse into a Hash = %#v, %v", ordered, err)
	}
	var p person
	if _, err := typ.Parse([]byte(`{"id":7,"name":"Ada","height":2.0,"note":1.0,"tags":{"9":"y"},"balance":"3.0"}`), &p); err != nil ||
		p.ID != 7 || p.Height != 2 || p.Note != json.Number("1.0") || p.Tags[9] != "y" || p.Balance != "3.0" {
		t.Errorf("Parse into a struct = %#v, %v", p, err)
	}
	for _, in := range []string{"not json", "{", "[1] 2", `"secret`, `{"a":}`, "\"\xff\"", strings.Repeat("[", 1e6), strings.Repeat("[", 101) + strings.Repeat("]", 101)} {
		var got any
		_, err := typ.Parse([]byte(in), &got)
		if !errors.Is(err, kmsencrypted.ErrMalformed) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Parse(%.20q) = %v, want ErrMalformed without the text", in, err)
		}
	}
	var n int
	if _, err := typ.Parse([]byte(`"secret"`), &n); !errors.Is(err, kmsencrypted.ErrMalformed) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Parse of a string into an int = %v, want ErrMalformed without the text", err)
	}
}

// echo is YAML for tests that do not come to it.
type echo struct{}

func (echo) Marshal(any) ([]byte, error) { return []byte("yaml"), nil }
func (echo) Unmarshal([]byte, any) error { return nil }

func TestYAMLTypes(t *testing.T) {
	t.Parallel()
	for name, values := range map[string]struct{ fit, null, wrong []any }{
		"hash": {
			[]any{Hash{{Key: 1, Value: 2}}, &Hash{{Key: 1, Value: 2}}, map[string]int{"a": 1}, address{}},
			[]any{Hash(nil), Hash{}, map[string]int{}, (*address)(nil), nil},
			[]any{[]any{1}, []int{1}, "a: 1", []byte("a: 1"), 1},
		},
		"array": {
			[]any{[]any{1}, []string{"a"}, [1]int{1}},
			[]any{[]any{}, []string(nil), nil},
			[]any{Hash{{Key: 1, Value: 2}}, map[string]int{"a": 1}, address{}, []byte("x"), "x"},
		},
	} {
		typ, err := ParseType(name, echo{})
		if err != nil {
			t.Fatal(err)
		}
		var itself any
		itself = &itself
		values.wrong = append(values.wrong, itself)
		for _, v := range values.fit {
			if got, null, err := typ.Append(nil, v); err != nil || null || string(got) != "yaml" {
				t.Errorf("type %s: Append(%#v) = %q, null %v, %v", name, v, got, null, err)
			}
		}
		for _, v := range values.null {
			if got, null, err := typ.Append(nil, v); err != nil || !null {
				t.Errorf("type %s: Append(%#v) = %q, null %v, %v, want null", name, v, got, null, err)
			}
		}
		for _, v := range values.wrong {
			if got, _, err := typ.Append(nil, v); !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("type %s: Append(a %T) = %q, %v, want ErrConfig", name, v, got, err)
			}
		}
	}
}

func TestTypeGoTypes(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]any{
		"string": []byte("x"), "binary": "x", "boolean": "t", "date": "2020-01-02", "datetime": 1, "time": "03:04",
		"integer": 1, "float": float32(1), "decimal": 1.5, "inet": "1.2.3.4", "": time.Time{}, "store": []any{1},
	} {
		if _, _, err := mustType(t, name).Append(nil, wrong); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("type %q: Append(a %T) = %v, want ErrConfig", name, wrong, err)
		}
		if _, err := mustType(t, name).Parse([]byte("1"), new(chan int)); err == nil {
			t.Errorf("type %q: Parse into a channel succeeded", name)
		}
		if got, null, err := mustType(t, name).Append([]byte("x"), nil); err != nil || !null || string(got) != "x" {
			t.Errorf("type %q: Append(nil) = %q, null %v, %v, want null", name, got, null, err)
		}
	}
	for _, p := range []netip.Prefix{{}, netip.PrefixFrom(netip.MustParseAddr("1.2.3.4"), 33)} {
		if got, _, err := mustType(t, "inet").Append(nil, p); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Append(%v) = %x, %v, want ErrConfig", p, got, err)
		}
	}
	for _, in := range []string{"", "\x00", "\x00\x20\x01", "\x00\x21\x01\x02\x03\x04", "\x01\x80\x01", "\x01\x81" + strings.Repeat("\x00", 16)} {
		var p netip.Prefix
		if _, err := mustType(t, "inet").Parse([]byte(in), &p); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("type inet: Parse(%x) = %v, %v, want ErrMalformed", in, p, err)
		}
	}
	var zero Type
	if got, _, err := zero.Append(nil, true); err != nil || string(got) != "t" {
		t.Errorf("Type{}.Append(true) = %q, %v, want t", got, err)
	}
}

// targets are pointers for each type.
var targets = map[string]func() any{
	"": func() any { return new(string) }, "string": func() any { return new(string) }, "binary": func() any { return new([]byte) },
	"boolean": func() any { return new(bool) }, "date": func() any { return new(time.Time) }, "datetime": func() any { return new(time.Time) },
	"time": func() any { return new(time.Time) }, "integer": func() any { return new(int64) }, "float": func() any { return new(float64) },
	"decimal": func() any { return new(Decimal) }, "inet": func() any { return new(netip.Prefix) }, "json": func() any { return new(any) },
	"store": func() any { return new(Hash) },
}

// What a type reads it writes so that it reads the same again: once written, the
// plaintext no longer changes. (Times lose what is below a microsecond the
// first time that they are read.)
func FuzzType(f *testing.F) {
	for name, seeds := range map[string][]string{
		"": {"text"}, "string": {"text"}, "binary": {"\x00\xff"}, "boolean": {"t", "f"},
		"date": {"2020-01-02", "3rd Feb 2001", "-0001-01-01"}, "datetime": {"2020-01-02T03:04:05.123456789Z", "Jan 2 2020 3pm"},
		"time": {"03:04:05.000000000", "3:04 EST"}, "integer": {"\x00\x00\x00\x00\x00\x00\x00\x05"}, "float": {"?\xf8\x00\x00\x00\x00\x00\x00"},
		"decimal": {"1.5", "-1e-3", "NaN"}, "inet": {"\x00\x20\x01\x02\x03\x04"}, "json": {`{"a":[1,2.5,null,"é"]}`}, "store": {`{"a":1}`},
	} {
		for _, seed := range seeds {
			f.Add(name, []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, name string, plaintext []byte) {
		typ, err := ParseType(name, nil)
		if err != nil {
			return
		}
		into := targets[name]()
		null, err := typ.Parse(plaintext, into)
		if err != nil && !isTyped(err) {
			t.Fatalf("type %s: Parse(%q) = %v, want a typed error", name, plaintext, err)
		}
		if err != nil || null {
			return
		}
		var written [3][]byte
		for i := range written {
			value := reflect.ValueOf(into).Elem().Interface()
			if written[i], null, err = typ.Append(nil, value); err != nil || null && i > 0 {
				t.Fatalf("type %s: Append(%v) = null %v, %v", name, value, null, err)
			}
			if null {
				return
			}
			into = targets[name]()
			if null, err := typ.Parse(written[i], into); err != nil || null {
				t.Fatalf("type %s: Parse(%q) = null %v, %v", name, written[i], null, err)
			}
		}
		if !bytes.Equal(written[1], written[2]) {
			t.Fatalf("type %s: %q, read and written, is %q", name, written[1], written[2])
		}
	})
}
