package rubyyaml

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

func bignum(text string) *big.Int {
	n, _ := new(big.Int).SetString(text, 10)
	return n
}

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t
}

// equal compares values, NaN with itself and times as instants.
func equal(a, b any) bool {
	switch a := a.(type) {
	case float64:
		b, ok := b.(float64)
		return ok && (math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b))
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b)
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case Hash:
		b, ok := b.(Hash)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i].Key, b[i].Key) || !equal(a[i].Value, b[i].Value) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// Plain texts and what Psych 4 takes them for, found by running it.
func TestUnmarshalScalars(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]any{
		"012": int64(10), "08": "08", "1:30": int64(5400), "1:30.5": 5430.0, "1_000": int64(1000), "1,000": int64(1000),
		"0x1f": int64(31), "0b11": int64(3), "0o17": "0o17", ".5": 0.5, "1.": 1.0, "+1": int64(1), "+.5": 0.5,
		"-.inf": math.Inf(-1), ".inf": math.Inf(1), "+.inf": math.Inf(1), ".NaN": math.NaN(),
		"1e3": "1e3", "1.5e3": "1.5e3", "1.5e+3": 1500.0, "1.5E+03": 1500.0,
		"2020-01-02": Date{2020, 1, 2}, "2020-1-2": Date{2020, 1, 2}, "2020-13-45": "2020-13-45", "2020-02-30": "2020-02-30",
		"2020-01-02 03:04:05":         at("2020-01-02T03:04:05Z"),
		"2020-01-02T03:04:05.5+09:00": at("2020-01-02T03:04:05.5+09:00"),
		"2020-01-02 03:04:05 -5":      at("2020-01-02T03:04:05-05:00"),
		"2020-01-02 03:04:05 -05:30":  at("2020-01-02T03:04:05-05:30"),
		":a":                          Symbol("a"), `:"a b"`: Symbol("a b"), `:"a`: Symbol(`"a`), ":a b": Symbol("a b"),
		"Yes": true, "YES": true, "yEs": true, "y": "y", "n": "n", "on": true, "Off": false,
		"NULL": nil, "~": nil, "nUll": nil, "0": int64(0), "-0": int64(0), "00": int64(0), "0_7": int64(7),
		"-012": int64(-10), "-0x1f": int64(-31), "1,2,3": int64(123), "1_": "1_", "_1": "_1", "12e03": "12e03",
		"0.1_2": "0.1_2", "1_0.5": 10.5, "1,0.5": 10.5, ".": ".", "-.": "-.", "+": "+", "1:90": "1:90",
		"1:2:3": int64(3723), "1:2:3:4": "1:2:3:4", "190:20:30": int64(685230), "1.2.3": "1.2.3",
		"0777777777777777777777777": bignum("4722366482869645213695"), "99999999999999999999999": bignum("99999999999999999999999"),
		"! ':a: b'": Symbol("a: b"), "! foo": "foo", "! '12'": int64(12), `!ruby/symbol "a: b"`: Symbol("a: b"), "!ruby/symbol": Symbol(""),
		"!!str 12": "12", "!foo 12": int64(12), `!!int "12"`: int64(12), "!!float 1": 1.0, `!!bool "yes"`: true, `!!null ""`: nil,
		"'12'": "12", `"\N\e\U0001F600"`: "\u0085\x1b😀", "!binary aGk=": []byte("hi"), "!binary |-\n  /w==": []byte{0xff},
		"|-\n  a\n  b": "a\nb", "'a\n\n  '": "a\n", "it's": "it's", "[1, {a: b}]": []any{int64(1), Hash{{Key: "a", Value: "b"}}},
	} {
		var got any
		if err := Unmarshal([]byte("- "+in+"\n"), &got); err != nil || !equal(got, []any{want}) {
			t.Errorf("Unmarshal(%q) = %#v, %v, want %#v", in, got, err, want)
		}
	}
}

// Rails cannot read a column with a date or a time unless it permits these classes.
func TestCodecTimes(t *testing.T) {
	t.Parallel()
	for class, v := range map[string]any{"Date": Date{2020, 1, 2}, "Time": at("2020-01-02T03:04:05Z")} {
		list := []any{v}
		if got, err := (Codec{}).Marshal(list); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Codec{}.Marshal(%v) = %q, %v, want ErrConfig", list, got, err)
		}
		data, err := Codec{Times: true}.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := (Codec{Times: true}).Unmarshal(data, &got); err != nil || !equal(got, list) {
			t.Errorf("Codec{Times: true}.Unmarshal(%q) = %v, %v, want %v", data, got, err, list)
		}
		err = Codec{}.Unmarshal(data, &got)
		if foreign, ok := errors.AsType[*ClassError](err); !ok || foreign.Class != class || !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("Codec{}.Unmarshal(%q) = %v, want a ClassError of %s", data, err, class)
		}
	}
}

// Documents as Psych writes them.
func TestUnmarshal(t *testing.T) {
	t.Parallel()
	one := []any{int64(1)}
	for in, want := range map[string]any{
		"":                                      nil,
		"---\n":                                 nil,
		"--- foo\n":                             "foo",
		"--- {}\n":                              Hash{},
		"--- []\n":                              []any{},
		"---\n- &1\n  - 1\n- *1\n":              []any{one, one},
		"---\n:a: &1\n- 1\n:b: *1\n":            Hash{{Key: Symbol("a"), Value: one}, {Key: Symbol("b"), Value: one}},
		"---\n? - 1\n  - 2\n: 3\n! '': 1\n":     Hash{{Key: []any{int64(1), int64(2)}, Value: int64(3)}, {Key: nil, Value: int64(1)}},
		"---\n- - - 1\n    - - 2\n":             []any{[]any{[]any{int64(1), []any{int64(2)}}}},
		"---\n!!str '<<': 1\n":                  Hash{{Key: "<<", Value: int64(1)}},
		"- &a {x: 1}\n- <<: *a\n  y: 2\n":       []any{Hash{{Key: "x", Value: int64(1)}}, Hash{{Key: "x", Value: int64(1)}, {Key: "y", Value: int64(2)}}},
		"- &a {x: 1}\n- <<: [*a, {x: 2, z: 1}]": []any{Hash{{Key: "x", Value: int64(1)}}, Hash{{Key: "x", Value: int64(1)}, {Key: "z", Value: int64(1)}}},
		"<<: 1":                                 Hash{{Key: "<<", Value: int64(1)}},
		"a: 1\na: 2\n":                          Hash{{Key: "a", Value: int64(2)}},
		"--- 1\n--- 2\n":                        int64(1),
		"!foo {a: 1}":                           Hash{{Key: "a", Value: int64(1)}},
		"é: \"x\\u2028\" \nb: ! ':c d'\n":       Hash{{Key: "é", Value: "x\u2028"}, {Key: "b", Value: Symbol("c d")}},
	} {
		var got any
		if err := Unmarshal([]byte(in), &got); err != nil || !equal(got, want) {
			t.Errorf("Unmarshal(%q) = %#v, %v, want %#v", in, got, err, want)
		}
	}
}

// What is written; all of it was read back by Ruby as the same value.
func TestMarshal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   any
		want string
	}{
		{nil, "---\n"},
		{Hash{}, "--- {}\n"},
		{[]any{}, "--- []\n"},
		{"yes", "--- \"yes\"\n"},
		{Hash{{Key: Symbol("a"), Value: Symbol("b")}}, "---\n:a: :b\n"},
		{Hash{{Key: "x", Value: Hash{{Key: Symbol("y"), Value: []any{1, nil, true, "é", "multi\nline"}}}}}, "---\nx:\n  :y:\n  - 1\n  -\n  - true\n  - é\n  - \"multi\\nline\"\n"},
		{[]any{[]any{}, Hash{}, []any{[]any{1, []any{2}}}, []any{Hash{{Key: Symbol("a"), Value: 1}, {Key: Symbol("b"), Value: 2}}}}, "---\n- []\n- {}\n- - - 1\n    - - 2\n- - :a: 1\n    :b: 2\n"},
		{Hash{{Key: []any{1, nil, Hash{{Key: "a", Value: 1}}}, Value: 3}, {Key: nil, Value: 1}, {Key: 1.5, Value: 2}}, "---\n? [1, null, {? a : 1}]\n: 3\nnull: 1\n1.5: 2\n"},
		{Hash{{Key: "<<", Value: 1}}, "---\n!!str \"<<\": 1\n"},
		{Hash{{Key: strings.Repeat("k", 200), Value: []int{1}}}, "---\n? " + strings.Repeat("k", 200) + "\n:\n- 1\n"},
		{[]string{"y", "12", "~", "", "a: b", "# c", "it's", "2020-01-01", ":a", "<<", "a b", "a  b", "\u2028\x00\x7f😀\t\"\\"},
			"---\n- \"y\"\n- \"12\"\n- \"~\"\n- \"\"\n- \"a: b\"\n- \"# c\"\n- it's\n- \"2020-01-01\"\n- \":a\"\n- !!str \"<<\"\n- a b\n- \"a  b\"\n- \"\\u2028\\x00\\x7F\\U0001F600\\t\\\"\\\\\"\n"},
		{[]Symbol{"a", "a b", "", "yes", "q?", "é", "1"}, "---\n- :a\n- !ruby/symbol \"a b\"\n- !ruby/symbol \"\"\n- :yes\n- :q?\n- !ruby/symbol \"é\"\n- !ruby/symbol \"1\"\n"},
		{[]float64{1, 1e20, 2.5e-7, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1)}, "---\n- 1.0\n- 1.0e+20\n- 2.5e-07\n- -0.0\n- .nan\n- .inf\n- -.inf\n"},
		{[]any{uint64(math.MaxUint64), []byte{0xff}, Date{2020, 1, 2}, at("1970-01-01T00:00:00.000000005Z"), at("2020-01-02T03:04:05+09:00")},
			"---\n- 18446744073709551615\n- !binary \"/w==\"\n- 2020-01-02\n- 1970-01-01 00:00:00.000000005 Z\n- 2020-01-02 03:04:05.000000000 +09:00\n"},
		{struct {
			A int            `json:"a"`
			B map[string]int `json:"b,omitempty"`
		}{1, nil}, "---\na: 1\n"},
		{map[int]string{10: "x", 9: "y"}, "---\n9: \"y\"\n10: x\n"},
	} {
		got, err := Marshal(c.in)
		if err != nil || string(got) != c.want {
			t.Errorf("Marshal(%#v) = %q, %v, want %q", c.in, got, err, c.want)
		}
	}
	endless := map[string]any{}
	endless["self"] = endless
	for name, v := range map[string]any{
		"channel": make(chan int), "endless": endless, "invalid UTF-8": "\xff", "symbol that is not UTF-8": Symbol("\xff"),
		"key that is not UTF-8": map[string]int{"\xff": 1}, "late date": Date{10000, 1, 1}, "late time": at("9999-12-31T23:59:59Z").AddDate(1, 0, 0),
	} {
		if got, err := Marshal(v); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Marshal(%s) = %q, %v, want ErrConfig", name, got, err)
		}
	}
}

func TestUnmarshalInto(t *testing.T) {
	t.Parallel()
	const in = "---\n:name: Ada\n:born: 1815-12-10\nscores:\n- 1.0\n- 2.5\n:tags:\n  1: :x\n:photo: !binary aGk=\n:seen: 2020-01-02 03:04:05 Z\n"
	var person struct {
		Name   string         `json:"name"`
		Born   string         `json:"born"`
		Scores []float64      `json:"scores"`
		Tags   map[int]string `json:"tags"`
		Photo  []byte         `json:"photo"`
		Seen   time.Time      `json:"seen"`
	}
	if err := Unmarshal([]byte(in), &person); err != nil || person.Name != "Ada" || person.Born != "1815-12-10" || len(person.Scores) != 2 ||
		person.Tags[1] != "x" || string(person.Photo) != "hi" || !person.Seen.Equal(at("2020-01-02T03:04:05Z")) {
		t.Errorf("Unmarshal into a struct = %+v, %v", person, err)
	}
	var m map[string]any
	if err := Unmarshal([]byte("a: {b: 1}\n:c: 1.0\n"), &m); err != nil || !reflect.DeepEqual(m, map[string]any{"a": map[string]any{"b": int64(1)}, "c": 1.0}) {
		t.Errorf("Unmarshal into a map = %#v, %v", m, err)
	}
	var n int
	if err := Unmarshal([]byte("secret"), &n); !errors.Is(err, kmsencrypted.ErrMalformed) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Unmarshal of a string into an int = %v, want ErrMalformed without the text", err)
	}
	if err := Unmarshal([]byte("1"), n); !errors.Is(err, kmsencrypted.ErrMalformed) {
		t.Errorf("Unmarshal into no pointer = %v, want ErrMalformed", err)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	t.Parallel()
	for in, class := range map[string]string{
		"--- !ruby/object:Object {}\n":                                    "Object",
		"--- !ruby/hash:ActiveSupport::HashWithIndifferentAccess\na: 1\n": "ActiveSupport::HashWithIndifferentAccess",
		"--- !ruby/object:BigDecimal 18:0.15e1\n":                         "BigDecimal",
		"--- !ruby/range\nbegin: 1\nend: 2\nexcl: false\n":                "range",
		"--- !ruby/regexp /a/\n":                                          "regexp",
		"- !ruby/array:Foo [1]\n":                                         "Foo",
		"--- !set {a: null}\n":                                            "set",
		"--- !map:Foo {a: 1}\n":                                           "Foo",
		"- !ruby/object:DateTime 2020-01-02 00:00:00.000000000 Z\n":       "DateTime",
	} {
		var v any
		err := Unmarshal([]byte(in), &v)
		foreign, ok := errors.AsType[*ClassError](err)
		if !ok || foreign.Class != class || !errors.Is(err, kmsencrypted.ErrMalformed) || strings.Contains(err.Error(), class+" ") {
			t.Errorf("Unmarshal(%q) = %v, want a ClassError of %s", in, err, class)
		}
	}
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+", ", 9) + "]\n"
	}
	merges := "- &a {" + strings.Repeat("k: 1, ", 1000) + "}\n"
	merges = strings.Replace(merges, "k: 1", "k1: 1", 1)
	for name, in := range map[string]string{
		"not closed": "[1, secret", "tab": "a:\n\t- b", "unknown alias": "*a", "holds itself": "&a [*a]", "key holds itself": "&a {? *a : 1}",
		"billion laughs": bomb, "deep": strings.Repeat("[", 2000), "binary": "\x00\x01", "bad number": "- 0b_",
	} {
		var v any
		if err := Unmarshal([]byte(in), &v); !errors.Is(err, kmsencrypted.ErrMalformed) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: Unmarshal = %v, want ErrMalformed", name, err)
		}
	}
	var v any
	if err := Unmarshal([]byte(merges), &v); err != nil {
		t.Errorf("Unmarshal(a large hash) = %v", err)
	}
}

// What can be read is written so that it reads the same.
func FuzzUnmarshal(f *testing.F) {
	for _, seed := range []string{
		"---\na: 1\n:b: [:c, ~, yes, 1.5, 012]\n", "---\n? - 1\n: !binary aGk=\n", "- 2020-01-02\n- 2020-01-02 03:04:05.5 +09:00\n",
		"- &1 x\n- *1\n- <<: {a: 1}\n", "--- |-\n  a\n  b\n", "- ! ':a: b'\n- !ruby/symbol \"\"\n- \"\\e\"\n", "- 1:30\n- .inf\n- .nan\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var value any
		if err := Unmarshal(data, &value); err != nil {
			if !errors.Is(err, kmsencrypted.ErrMalformed) {
				t.Fatalf("Unmarshal(%q) = %v, want ErrMalformed", data, err)
			}
			return
		}
		written, err := Marshal(value)
		if err != nil {
			if !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Fatalf("Marshal(%#v) = %v", value, err)
			}
			return // negative years
		}
		var again any
		if err := Unmarshal(written, &again); err != nil || !equal(again, value) {
			t.Fatalf("Unmarshal(%q) = %#v, %v, want %#v", written, again, err, value)
		}
		if rewritten, err := Marshal(again); err != nil || !bytes.Equal(rewritten, written) {
			t.Fatalf("Marshal(%#v) = %q, %v, want %q", again, rewritten, err, written)
		}
	})
}
