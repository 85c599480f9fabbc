package rubymarshal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"math/big"
	"reflect"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

type (
	hash = rubycompat.Hash
	sym  = rubycompat.Symbol
)

func bignum(text string) *big.Int {
	n, _ := new(big.Int).SetString(text, 10)
	return n
}

// dumps are values and what Ruby 3.1 writes for them. Both directions must hold.
var dumps = []struct {
	value any
	hex   string
}{
	{nil, "040830"},
	{true, "040854"},
	{false, "040846"},
	{int64(0), "04086900"},
	{int64(1), "04086906"},
	{int64(-1), "040869fa"},
	{int64(122), "0408697f"},
	{int64(123), "040869017b"},
	{int64(-123), "04086980"},
	{int64(-124), "040869ff84"},
	{int64(255), "04086901ff"},
	{int64(256), "040869020001"},
	{int64(-128), "040869ff80"},
	{int64(-129), "040869ff7f"},
	{int64(-256), "040869ff00"},
	{int64(-257), "040869fefffe"},
	{int64(1<<30 - 1), "04086904ffffff3f"},
	{int64(1 << 30), "04086c2b0700000040"},
	{int64(-1 << 30), "040869fc000000c0"},
	{int64(-1<<30 - 1), "04086c2d0701000040"},
	{int64(1 << 40), "04086c2b08000000000001"},
	{bignum("18446744073709551616"), "04086c2b0a00000000000000000100"},
	{bignum("-1180591620717411303424"), "04086c2d0a00000000000000004000"},
	{[]any{int64(1 << 40), int64(1 << 40)}, "04085b076c2b080000000000016c2b08000000000001"},
	{[]any{1.5, 1.5}, "04085b076608312e354006"},
	{[]any{0.0, 0.0, math.Copysign(0, -1), math.Copysign(0, -1)}, "04085b09660630400666072d3066072d30"},
	{[]any{1e300, 1e300}, "04085b07660a3165333030660a3165333030"},
	{[]any{1e-77, 1e-77}, "04085b07660a31652d3737660a31652d3737"},
	{[]any{math.Inf(1), math.Inf(-1)}, "04085b076608696e6666092d696e66"},
	{[]any{1e+20, 1e+16, 1e-05, 0.1, 100.0, 123456789012345680.0, 5e-324, 1.7976931348623157e308},
		"04085b0d660931653230660931653136660931652d356608302e316608316532661a312e32333435363738393031323334353638653137660b35652d333234661b312e3739373639333133343836323331353765333038"},
	{[]any{sym("a"), sym("a"), sym("é"), sym("é")}, "04085b093a06613b00493a07c3a9063a0645543b06"},
	{"x", "040849220678063a064554"},
	{[]byte{0xff, 0x61}, "04082207ff61"},
	{[]byte("a"), "0408220661"},
	{String{[]byte("a"), "US-ASCII"}, "040849220661063a064546"},
	{[]any{String{[]byte{0xe9}, "ISO-8859-1"}, String{[]byte{0xe9}, "ISO-8859-1"}},
		"04085b07492206e9063a0d656e636f64696e67220f49534f2d383835392d31492206e9063b004007"},
	{rubycompat.DefaultHash{Hash: hash{{Key: int64(1), Value: int64(2)}}, Default: int64(5)}, "04087d0669066907690a"},
	{hash{{Key: sym("a"), Value: []any{int64(1), hash{{Key: sym("b"), Value: nil}}}}}, "04087b063a06615b0769067b063a066230"},
	{[]any{1.5, "a", 1.5}, "04085b086608312e3549220661063a0645544006"},
	{[]any{hash{{Key: "k", Value: "k"}}, hash{{Key: "k", Value: nil}}}, "04085b077b064922066b063a0645544922066b063b00547b06400730"},
	{hash{}, "04087b00"},
	{[]any{}, "04085b00"},
}

func TestMarshal(t *testing.T) {
	t.Parallel()
	for _, d := range dumps {
		got, err := Marshal(d.value)
		if err != nil || hex.EncodeToString(got) != d.hex {
			t.Errorf("Marshal(%#v) = %x, %v, want %s", d.value, got, err, d.hex)
		}
		data, _ := hex.DecodeString(d.hex)
		value, err := Unmarshal(data)
		if err != nil || !reflect.DeepEqual(value, d.value) {
			t.Errorf("Unmarshal(%s) = %#v, %v, want %#v", d.hex, value, err, d.value)
		}
	}
}

func TestMarshalGoValues(t *testing.T) {
	t.Parallel()
	type pet struct {
		Name string `json:"name"`
		Age  uint8  `json:"age,omitempty"`
	}
	for _, c := range []struct{ in, want any }{
		{map[string]int{"b": 2, "a": 1}, hash{{Key: "a", Value: int64(1)}, {Key: "b", Value: int64(2)}}},
		{&pet{Name: "Rex"}, hash{{Key: "name", Value: "Rex"}}},
		{[]string{"x"}, []any{"x"}},
		{uint64(math.MaxUint64), bignum("18446744073709551615")},
	} {
		data, err := Marshal(c.in)
		if err != nil {
			t.Errorf("Marshal(%#v) = %v", c.in, err)
			continue
		}
		if got, err := Unmarshal(data); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("Unmarshal(Marshal(%#v)) = %#v, %v, want %#v", c.in, got, err, c.want)
		}
	}
	endless := map[string]any{}
	endless["self"] = endless
	for _, v := range []any{make(chan int), func() {}, endless, []any{complex(1, 2)}} {
		if _, err := Marshal(v); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Marshal(a %T) = %v, want ErrConfig", v, err)
		}
	}
}

// What one object was in Ruby is read in every place that refers to it.
func TestUnmarshalLinks(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]any{
		"04085b0749220678063a0645544006":             []any{"x", "x"},         // [s, s]
		"04085b075b004006":                           []any{[]any{}, []any{}}, // [a, a]
		"04085b076c2b0b0000000000000000000001004006": []any{bignum("1208925819614629174706176"), bignum("1208925819614629174706176")},
		"04085b07660a31653330304006":                 []any{1e300, 1e300},
	} {
		data, _ := hex.DecodeString(in)
		if got, err := Unmarshal(data); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Unmarshal(%s) = %#v, %v, want %#v", in, got, err, want)
		}
	}
}

func TestUnmarshalClasses(t *testing.T) {
	t.Parallel()
	for in, class := range map[string]string{
		"04086f3a0b4f626a65637400": "Object",
		"04086f3a0a52616e6765083a096578636c463a0a626567696e69063a08656e646907":       "Range",
		"040849753a0954696d650d208011c000000000063a097a6f6e65492208555443063a064546": "Time",
		"0408492f066100063a064546":               "Regexp",
		"0408630b537472696e67":                   "Class",
		"0408553a0d526174696f6e616c5b0769066906": "Rational",
		"040849433a0653220671063a064554":         "S",
		"0408433a09486173687b00":                 "Hash",
	} {
		data, _ := hex.DecodeString(in)
		_, err := Unmarshal(data)
		foreign, ok := errors.AsType[*rubycompat.ClassError](err)
		if !ok || foreign.Class != class || !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("Unmarshal(%s) = %v, want a ClassError of %s", in, err, class)
		}
		if bytes.Contains([]byte(err.Error()), []byte(class+" ")) {
			t.Errorf("Unmarshal(%s): %q shows what the plaintext holds", in, err)
		}
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"empty":                     "",
		"header alone":              "\x04\x08",
		"another version":           "\x03\x000",
		"text":                      "secret",
		"unknown kind":              "\x04\x08?",
		"truncated string":          "\x04\x08\"\x0aab",
		"negative length":           "\x04\x08\"\xfa",
		"a billion items":           "\x04\x08[\x04\xff\xff\xff\x3f",
		"link to nothing":           "\x04\x08@\x06",
		"array that holds itself":   "\x04\x08[\x06@\x00",
		"symbol link to nothing":    "\x04\x08;\x00",
		"float of a plaintext":      "\x04\x08f\x0bsecret",
		"hexadecimal float":         "\x04\x08f\x0a0x1p1",
		"bignum without sign":       "\x04\x08l*\x06\x01\x00",
		"string with two variables": "\x04\x08I\"\x06a\x07:\x06ET:\x06qT",
		"encoding that is a number": "\x04\x08I\"\x06a\x06:\x0dencodingi\x06",
	} {
		if v, err := Unmarshal([]byte(in)); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("%s: Unmarshal = %#v, %v, want ErrMalformed", name, v, err)
		}
	}
	deep := append([]byte(header), bytes.Repeat([]byte("[\x06"), maxDepth+2)...)
	if _, err := Unmarshal(append(deep, '0')); !errors.Is(err, kmsencrypted.ErrMalformed) {
		t.Errorf("Unmarshal(deep array) = %v, want ErrMalformed", err)
	}
	// Each array holds the one before it twice: 2^60 parts in a few hundred bytes.
	bomb := append([]byte(header), '[', 60+5, '[', 0)
	for i := range 59 {
		bomb = append(bomb, '[', 7, '@', byte(i+1+5), '@', byte(i+1+5))
	}
	if _, err := Unmarshal(bomb); !errors.Is(err, kmsencrypted.ErrMalformed) {
		t.Errorf("Unmarshal(links upon links) = %v, want ErrMalformed", err)
	}
}

// What can be read is written so that it reads the same, and the writing is stable.
func FuzzUnmarshal(f *testing.F) {
	for _, d := range dumps {
		data, _ := hex.DecodeString(d.hex)
		f.Add(data)
	}
	f.Add([]byte("\x04\x08[\x08f\x081.5I\"\x06a\x06:\x06ET@\x06"))
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := Unmarshal(data)
		if err != nil {
			if !errors.Is(err, kmsencrypted.ErrMalformed) {
				t.Fatalf("Unmarshal(%x) = %v, want ErrMalformed", data, err)
			}
			return
		}
		written, err := Marshal(value)
		if err != nil {
			t.Fatalf("Marshal(%#v) = %v", value, err)
		}
		again, err := Unmarshal(written)
		if err != nil {
			t.Fatalf("Unmarshal(Marshal(%#v)) = %v", value, err)
		}
		if rewritten, err := Marshal(again); err != nil || !bytes.Equal(rewritten, written) {
			t.Fatalf("Marshal(%#v) = %x, %v, want %x", again, rewritten, err, written)
		}
	})
}
