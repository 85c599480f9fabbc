package rubycompat

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

type inner struct {
	Shared string `json:"shared"`
	Deep   int    `json:"deep"`
	Twice  int
}

type other struct{ Twice int }

type Tagged struct{ X int }

type outer struct {
	inner
	other
	Tagged  `json:"tagged"`
	*outer                 //lint:ignore U1000 a type that embeds itself, which must not recurse for ever
	Shared  bool           `json:"shared"`
	Empty   map[string]int `json:"empty,omitempty"`
	Zero    time.Duration  `json:"zero,omitzero"`
	Skipped string         `json:"-"`
	hidden  string
}

// The fields and their order are those of encoding/json.
func TestReflectionStructs(t *testing.T) {
	t.Parallel()
	in := outer{inner: inner{"lost", 1, 2}, Tagged: Tagged{3}, Shared: true, Skipped: "s", hidden: "h"}
	got, err := Reflection{MaxDepth: 9}.Value(in)
	if err != nil {
		t.Fatal(err)
	}
	want := Hash{{"deep", int64(1)}, {"tagged", Hash{{"X", int64(3)}}}, {"shared", true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Value(%+v) = %v, want %v", in, got, want)
	}
	plain, err := Plain(got)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	var a, b map[string]any
	theirs, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(json.Unmarshal(ours, &a), json.Unmarshal(theirs, &b)); err != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("Value(%+v) as JSON = %s, encoding/json %s, %v", in, ours, theirs, err)
	}
}

func TestReflection(t *testing.T) {
	t.Parallel()
	huge := new(big.Int).Lsh(big.NewInt(1), 64)
	n := 5
	for _, c := range []struct{ in, want any }{
		{nil, nil}, {(*int)(nil), nil}, {[]int(nil), nil}, {map[string]int(nil), nil},
		{&n, int64(5)}, {uint8(7), int64(7)}, {uint64(math.MaxUint64), new(big.Int).SetUint64(math.MaxUint64)}, {huge, huge}, {big.NewInt(3), int64(3)},
		{float32(0.1), 0.1}, {Symbol("s"), Symbol("s")}, {[]byte("x"), []byte("x")}, {[2]byte{1, 2}, []byte{1, 2}},
		{json.Number("1"), int64(1)}, {json.Number("1.0"), 1.0}, {netip.MustParseAddr("::1"), "::1"},
		{[]any{1, "x", nil}, []any{int64(1), "x", nil}},
		{map[int]bool{10: true, 9: false}, Hash{{int64(9), false}, {int64(10), true}}},
		{map[any]any{"b": 1, "a": 2, 3: nil}, Hash{{int64(3), nil}, {"a", int64(2)}, {"b", int64(1)}}},
		{Hash{{"z", uint8(1)}, {Symbol("a"), []int{2}}}, Hash{{"z", int64(1)}, {Symbol("a"), []any{int64(2)}}}},
	} {
		if got, err := (Reflection{MaxDepth: 2}).Value(c.in); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("Value(%#v) = %#v, %v, want %#v", c.in, got, err, c.want)
		}
	}
	endless := []any{nil}
	endless[0] = endless
	for name, in := range map[string]any{
		"channel": make(chan int), "complex": 1i, "time": time.Now(), "pointer to a time": &time.Time{}, "endless": endless,
		"too deep": []any{[]any{[]any{}}}, "option string": struct {
			N int `json:",string"`
		}{}, "number that is none": json.Number("x"),
	} {
		if got, err := (Reflection{MaxDepth: 2}).Value(in); err == nil {
			t.Errorf("Value(%s) = %#v, want an error", name, got)
		}
	}
}

func TestAssign(t *testing.T) {
	t.Parallel()
	hash := Hash{{Symbol("name"), "Ada"}, {"n", int64(1)}, {"f", 1.0}, {int64(3), nil}}
	var target struct {
		Name string `json:"name"`
		N    int8   `json:"n"`
		F    any    `json:"f"`
	}
	if err := Assign(&target, hash); err != nil || target.Name != "Ada" || target.N != 1 || target.F != json.Number("1.0") {
		t.Errorf("Assign(%v) = %+v, %v", hash, target, err)
	}
	var m map[string]any
	if err := Assign(&m, hash); err != nil || !reflect.DeepEqual(m, map[string]any{"name": "Ada", "n": int64(1), "f": 1.0, "3": nil}) {
		t.Errorf("Assign(%v) into a map = %#v, %v", hash, m, err)
	}
	var h Hash
	if err := Assign(&h, hash); err != nil || !reflect.DeepEqual(h, hash) {
		t.Errorf("Assign(%v) into a Hash = %#v, %v", hash, h, err)
	}
	if err := Assign(&h, nil); err != nil || h != nil {
		t.Errorf("Assign(nil) = %#v, %v", h, err)
	}
	for name, err := range map[string]error{
		"no pointer": Assign(h, hash), "nil pointer": Assign((*Hash)(nil), hash), "text into a number": Assign(new(int), "x"),
		"list into a map": Assign(&m, []any{}), "number too large": Assign(new(int8), int64(300)), "NaN into a number": Assign(new(float32), math.NaN()),
		"list as key": Assign(&target, Hash{{[]any{}, 1}}),
	} {
		if err == nil {
			t.Errorf("Assign(%s) succeeded", name)
		}
	}
	if v, ok := hash.Get(Symbol("name")); !ok || v != "Ada" {
		t.Errorf("Get(:name) = %v, %v", v, ok)
	}
	if v, ok := hash.Get("name"); ok {
		t.Errorf("Get(name) = %v, want nothing: the key is a symbol", v)
	}
}
