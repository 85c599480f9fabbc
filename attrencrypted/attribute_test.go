package attrencrypted

import (
	"bytes"
	"crypto/fips140"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

func testKey(size int) []byte { return bytes.Repeat([]byte{'k'}, size) }

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, a := range algorithms {
		for _, mode := range []Mode{PerAttributeIV, PerAttributeIVAndSalt, InsecureSingleIVAndSalt} {
			for _, encoding := range []Encoding{Base64Lines, Base64, Raw} {
				attribute, err := New(testKey(a.keySize), Options{Mode: mode, Algorithm: name, Iterations: 2, Value: encoding, IV: encoding, Salt: encoding})
				if err != nil {
					t.Fatal(err)
				}
				for _, size := range []int{1, 15, 16, 17, 100} {
					plaintext := bytes.Repeat([]byte{'p'}, size)
					columns, err := attribute.Encrypt(plaintext)
					if err != nil {
						t.Fatal(err)
					}
					if (columns.IV == nil) != (mode == InsecureSingleIVAndSalt) || (columns.Salt == nil) != (mode != PerAttributeIVAndSalt) {
						t.Errorf("%s, mode %d: columns %q", name, mode, columns)
					}
					if got, err := attribute.Decrypt(columns); err != nil || !bytes.Equal(got, plaintext) {
						t.Errorf("%s, mode %d, encoding %d: Decrypt(Encrypt(%d bytes)) = %q, %v", name, mode, encoding, size, got, err)
					}
				}
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size int
		o    Options
	}{
		"no key":                  {0, Options{}},
		"no key in insecure mode": {0, Options{Mode: InsecureSingleIVAndSalt}},
		"short key":               {31, Options{}},
		"long key":                {33, Options{}},
		"short key with salt":     {31, Options{Mode: PerAttributeIVAndSalt}},
		"algorithm":               {32, Options{Algorithm: "aes-256-ctr"}},
		"mode":                    {32, Options{Mode: 7}},
		"encoding":                {32, Options{IV: 7}},
		"iterations":              {32, Options{Iterations: -1}},
		"zero iv with CBC":        {32, Options{Algorithm: "aes-256-cbc", ZeroIV: true}},
		"auth data with CBC":      {32, Options{Algorithm: "aes-256-cbc", AuthData: []byte("x")}},
	} {
		if _, err := New(testKey(c.size), c.o); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: New = %v, want ErrConfig", name, err)
		}
	}
}

func TestDecryptMalformed(t *testing.T) {
	t.Parallel()
	attribute, err := New(testKey(32), Options{Value: Base64, IV: Base64})
	if err != nil {
		t.Fatal(err)
	}
	good, err := attribute.Encrypt([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Columns{
		"newline in strict base64": {append(bytes.Clone(good.Value), '\n'), good.IV, nil},
		"plaintext":                {[]byte("123-45-6789"), good.IV, nil},
		"short value":              {[]byte("AAAA"), good.IV, nil},
		"no iv":                    {good.Value, nil, nil},
		"empty iv":                 {good.Value, []byte{}, nil},
		"iv of another size":       {good.Value, []byte("AAAA"), nil},
		"iv that is no base64":     {good.Value, []byte("?"), nil},
	} {
		if got, err := attribute.Decrypt(c); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("%s: Decrypt = %q, %v, want ErrMalformed", name, got, err)
		}
	}
	salted, err := New(testKey(33), Options{Mode: PerAttributeIVAndSalt, Value: Base64, IV: Base64})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := salted.Decrypt(good); !errors.Is(err, kmsencrypted.ErrMalformed) {
		t.Errorf("Decrypt without salt under a long key = %q, %v, want ErrMalformed", got, err)
	}
	// A row from before the attribute had a salt is read with the key itself.
	if salted, err = New(testKey(32), Options{Mode: PerAttributeIVAndSalt, Value: Base64, IV: Base64}); err != nil {
		t.Fatal(err)
	}
	if got, err := salted.Decrypt(good); err != nil || string(got) != "secret" {
		t.Errorf("Decrypt of a row without salt = %q, %v", got, err)
	}
}

// Every text that ends in padding of a wrong form is refused.
func TestPadding(t *testing.T) {
	t.Parallel()
	for tail, want := range map[string]int{
		"\x01": 1, "\x02\x02": 2, strings.Repeat("\x10", 16): 16, "\x00": 0, "\x11": 0, "\x01\x02": 0, "\x03\x02\x03": 0, "\xff": 0,
		"\x0f" + strings.Repeat("\x10", 15): 0,
	} {
		padded := append(bytes.Repeat([]byte{'x'}, 32-len(tail)), tail...)
		if got := paddingSize(padded); got != want {
			t.Errorf("paddingSize(…%x) = %d, want %d", tail, got, want)
		}
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for in, want := range map[any]string{
		"text": "text", true: "true", false: "false", 123: "123", int8(-1): "-1", uint64(1 << 63): "9223372036854775808",
		1.5: "1.5", 1e20: "1.0e+20", float32(0.1): "0.1", Symbol("sym"): "sym", big.NewInt(7): "7",
	} {
		if got, err := AppendText(nil, in); err != nil || string(got) != want {
			t.Errorf("AppendText(%v) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []any{time.Time{}, []any{1}, struct{}{}, nil} {
		if got, err := AppendText(nil, in); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("AppendText(a %T) = %q, %v, want ErrConfig", in, got, err)
		}
	}
	for _, c := range []struct {
		in         any
		o          Options
		wantValue  []byte // if nothing is encrypted
		encrypted  bool
		wantOpened any
	}{
		{nil, Options{}, nil, false, nil},
		{"", Options{}, []byte{}, false, ""},
		{[]byte{}, Options{Marshal: true}, []byte{}, false, ""},
		{nil, Options{Marshal: true}, nil, false, nil},
		{nil, Options{Marshal: true, AllowEmptyValue: true}, nil, true, nil},
		{"", Options{Marshal: true, AllowEmptyValue: true}, nil, true, ""},
		{[]byte{}, Options{Marshal: true, AllowEmptyValue: true}, nil, true, []byte{}},
		{0, Options{}, nil, true, "0"},
		{false, Options{Marshal: true}, nil, true, false},
	} {
		attribute, err := New(testKey(32), c.o)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := attribute.EncryptValue(c.in)
		if err != nil || (len(columns.Value) > 0) != c.encrypted || !c.encrypted && !reflect.DeepEqual(columns, Columns{Value: c.wantValue}) {
			t.Errorf("%+v: EncryptValue(%#v) = %q, %v", c.o, c.in, columns, err)
		}
		if got, err := attribute.DecryptValue(columns); err != nil || !reflect.DeepEqual(got, c.wantOpened) {
			t.Errorf("%+v: DecryptValue(EncryptValue(%#v)) = %#v, %v, want %#v", c.o, c.in, got, err, c.wantOpened)
		}
	}
	allowEmpty, err := New(testKey(32), Options{AllowEmptyValue: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []any{nil, "", []byte{}} {
		if got, err := allowEmpty.EncryptValue(in); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("EncryptValue(%#v) = %q, %v, want ErrConfig", in, got, err)
		}
	}
	marshalled, err := New(testKey(32), Options{Marshal: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := marshalled.EncryptValue(make(chan int)); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("EncryptValue(channel) = %q, %v, want ErrConfig", got, err)
	}
}

func TestRedacted(t *testing.T) {
	t.Parallel()
	attribute, err := New(testKey(32), Options{Mode: InsecureSingleIVAndSalt})
	if err != nil {
		t.Fatal(err)
	}
	holder := struct{ a *Attribute }{attribute}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %q", attribute, attribute, attribute, *attribute), fmt.Sprintf("%v %+v %#v", holder, holder, holder)} {
		if strings.Contains(text, "kkkk") || strings.Contains(text, "107 107") || strings.Contains(text, "0x6b, ") {
			t.Errorf("%s shows the key", text)
		}
	}
}

// The default mode works in a process that is restricted to approved algorithms;
// the mode over MD5 says that it does not.
func TestFIPS(t *testing.T) {
	if os.Getenv("ATTRENCRYPTED_TEST_FIPS") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFIPS$", "-test.v")
		cmd.Env = append(cmd.Environ(), "ATTRENCRYPTED_TEST_FIPS=1", "GODEBUG=fips140=only")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestFIPS")) {
			t.Errorf("under fips140=only: %v\n%s", err, out)
		}
		return
	}
	if !fips140.Enforced() {
		t.Fatal("GODEBUG=fips140=only has no effect")
	}
	attribute, err := New(testKey(32), Options{AuthData: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	columns, err := attribute.Encrypt([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := attribute.Decrypt(columns); err != nil || string(got) != "secret" {
		t.Errorf("Decrypt = %q, %v", got, err)
	}
	if _, err := New(testKey(32), Options{Mode: InsecureSingleIVAndSalt}); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("New(insecure mode) = %v, want ErrConfig", err)
	}
	salted, err := New(testKey(32), Options{Mode: PerAttributeIVAndSalt})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := salted.Encrypt([]byte("secret")); err != nil && !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Encrypt with salt = %v, want ErrConfig", err)
	}
}

// Nothing but what was encrypted opens, and what opens is encrypted to the same
// columns again.
func FuzzDecrypt(f *testing.F) {
	for mode := range 3 {
		for _, algorithm := range []string{"aes-256-gcm", "aes-256-cbc"} {
			attribute, err := New(testKey(32), Options{Mode: Mode(mode), Algorithm: algorithm, Iterations: 1})
			if err != nil {
				f.Fatal(err)
			}
			c, err := attribute.Encrypt([]byte("secret"))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(mode, algorithm, c.Value, c.IV, c.Salt)
		}
	}
	f.Fuzz(func(t *testing.T, mode int, algorithm string, value, iv, salt []byte) {
		o := Options{Mode: Mode(mode), Algorithm: algorithm, Iterations: 1}
		key := testKey(32)
		attribute, err := New(key, o)
		if err != nil {
			return
		}
		c := Columns{value, iv, salt}
		plaintext, err := attribute.Decrypt(c)
		if err != nil {
			if !isTyped(err) {
				t.Fatalf("Decrypt(%q) = %v, want a typed error", c, err)
			}
			return
		}
		if len(plaintext) == 0 || mode != 0 {
			return
		}
		again, err := replaying(t, key, o, Columns{IV: iv}).Encrypt(plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := attribute.Decrypt(again); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("Decrypt(Encrypt(%q)) = %q, %v", plaintext, got, err)
		}
		decode := encodings[Base64Lines].decode
		want, _ := decode(value)
		if sealed, _ := decode(again.Value); !bytes.Equal(sealed, want) {
			t.Fatalf("Encrypt(Decrypt(%x)) = %x", want, sealed)
		}
	})
}
