package attrencrypted

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
)

// rubyOptions are the options of attr_encrypted as the file writes them.
type rubyOptions struct {
	Key             vectors.Stored `json:"key"`
	Encode          any            `json:"encode"`
	EncodeIV        any            `json:"encode_iv"`
	EncodeSalt      any            `json:"encode_salt"`
	DefaultEncoding string         `json:"default_encoding"`
	Mode            string         `json:"mode"`
	Algorithm       string         `json:"algorithm"`
	InsecureMode    bool           `json:"insecure_mode"`
	AuthData        string         `json:"auth_data"`
	Iterations      int            `json:"hmac_iterations"`
	AllowEmptyValue bool           `json:"allow_empty_value"`
	Marshal         bool           `json:"marshal"`
	ZeroIV          bool           `json:"v2_gcm_iv"`
	If              *bool          `json:"if"`
	Unless          bool           `json:"unless"`
}

func (o rubyOptions) options(t *testing.T) Options {
	t.Helper()
	encoding := func(option, absent any) Encoding {
		if option == nil {
			option = absent
		}
		if option == true {
			option = o.DefaultEncoding
		}
		e, ok := map[any]Encoding{false: Raw, "": Base64Lines, "m": Base64Lines, "m0": Base64}[option]
		if !ok {
			t.Fatalf("encoding %v", option)
		}
		return e
	}
	mode, ok := map[string]Mode{
		"": PerAttributeIV, "per_attribute_iv": PerAttributeIV,
		"per_attribute_iv_and_salt": PerAttributeIVAndSalt, "single_iv_and_salt": InsecureSingleIVAndSalt,
	}[o.Mode]
	if !ok || o.InsecureMode != (mode == InsecureSingleIVAndSalt) {
		t.Fatalf("mode %s, insecure_mode %v", o.Mode, o.InsecureMode)
	}
	return Options{
		Mode: mode, Algorithm: o.Algorithm, AuthData: []byte(o.AuthData), Iterations: o.Iterations,
		Value: encoding(o.Encode, false), IV: encoding(o.EncodeIV, true), Salt: encoding(o.EncodeSalt, true),
		AllowEmptyValue: o.AllowEmptyValue, Marshal: o.Marshal, ZeroIV: o.ZeroIV,
	}
}

// stored are the columns of a vector; what the file leaves out is NULL.
type stored struct {
	Value *vectors.Stored `json:"encrypted_v"`
	IV    *vectors.Stored `json:"encrypted_v_iv"`
	Salt  *vectors.Stored `json:"encrypted_v_salt"`
}

func (s stored) columns() Columns {
	bytesOf := func(s *vectors.Stored) []byte {
		if s == nil || s.Null {
			return nil
		}
		return append([]byte{}, s.Bytes...)
	}
	return Columns{bytesOf(s.Value), bytesOf(s.IV), bytesOf(s.Salt)}
}

// goValue is a Ruby value in Go.
func goValue(t *testing.T, v vectors.Value) any {
	t.Helper()
	switch v.Kind {
	case "nil":
		return nil
	case "s":
		return v.Text
	case "sym":
		return Symbol(v.Text)
	case "bool":
		return v.Bool
	case "bin":
		switch v.Enc {
		case "":
		case "UTF-8":
			return string(v.Bytes) // text that is not valid
		default:
			return String{Bytes: v.Bytes, Encoding: v.Enc}
		}
		return v.Bytes
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
	case "a":
		list := make([]any, len(v.List))
		for i := range list {
			list[i] = goValue(t, v.List[i])
		}
		return list
	case "h":
		hash := make(Hash, len(v.Pairs))
		for i, p := range v.Pairs {
			hash[i] = Pair{Key: goValue(t, p[0]), Value: goValue(t, p[1])}
		}
		return hash
	}
	t.Fatalf("value of kind %s", v.Kind)
	return nil
}

// same compares values; NaN equals itself.
func same(a, b any) bool {
	f, isFloat := a.(float64)
	g, areFloats := b.(float64)
	return isFloat && areFloats && math.IsNaN(f) && math.IsNaN(g) || reflect.DeepEqual(a, b)
}

// replaying returns an attribute that once uses the iv and salt of columns
// instead of random ones, which no user of the package can do.
func replaying(t testing.TB, key []byte, o Options, c Columns) *Attribute {
	t.Helper()
	var queue [][]byte
	if len(c.Salt) > 0 { // the salt is made first
		salt, err := (&Attribute{options: o}).decodeSalt(c.Salt)
		if err != nil {
			t.Fatal(err)
		}
		queue = append(queue, salt)
	}
	iv, err := encodings[o.IV].decode(c.IV)
	if err != nil {
		t.Fatal(err)
	}
	queue = append(queue, iv)
	a, err := newAttribute(key, o, func(b []byte) {
		copy(b, queue[0])
		queue = queue[1:]
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAttrEncryptedVectors(t *testing.T) {
	t.Parallel()
	const file = "attr_encrypted.json"
	var v struct {
		Cases []struct {
			stored
			Name    string           `json:"name"`
			Options rubyOptions      `json:"options"`
			Input   vectors.Value    `json:"input"`
			Read    vectors.Value    `json:"read"`
			Error   *vectors.Failure `json:"error"`
		} `json:"cases"`
		Reads []struct {
			stored
			Name        string           `json:"name"`
			Options     rubyOptions      `json:"options"`
			EffectiveIV string           `json:"effective_iv"`
			Read        vectors.Value    `json:"read"`
			Error       *vectors.Failure `json:"error"`
		} `json:"reads"`
	}
	vectors.Load(t, file, &v)

	for _, c := range v.Cases {
		name := c.Name + ", " + c.Input.Kind + " " + c.Input.Text
		o := c.Options.options(t)
		key := c.Options.Key.Bytes
		a, err := New(key, o)
		if c.Error != nil {
			if err == nil {
				_, err = a.EncryptValue(goValue(t, c.Input))
			}
			if !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("%s: %v, want ErrConfig", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: New = %v", name, err)
			continue
		}
		columns := c.columns()
		if c.Options.If != nil && !*c.Options.If || c.Options.Unless {
			// A condition of the model had the value stored as it is. It is the
			// caller's to ask; here a plaintext in the column is an error.
			if got, err := a.Decrypt(columns); !isTyped(err) {
				t.Errorf("%s: Decrypt(plaintext) = %q, %v, want an error", name, got, err)
			}
			continue
		}
		if class := foreignClass(c.Input); class != "" {
			checkForeign(t, name, class, a, replaying(t, key, o, columns), columns)
			continue
		}
		input, want := goValue(t, c.Input), goValue(t, c.Read)
		if got, err := a.DecryptValue(columns); err != nil || !same(got, want) {
			t.Errorf("%s: DecryptValue = %#v, %v, want %#v", name, got, err, want)
		}
		got, err := replaying(t, key, o, columns).EncryptValue(input)
		if err != nil || !reflect.DeepEqual(got, columns) {
			t.Errorf("%s: EncryptValue(%#v) = %q, %v, want %q", name, input, got, err, columns)
		}
		refusesChanges(t, name, a, key, o, columns)

		// With an iv and a salt of its own it reads back too.
		fresh, err := a.EncryptValue(input)
		if err != nil {
			t.Errorf("%s: EncryptValue(%#v) = %v", name, input, err)
			continue
		}
		if len(columns.IV) > 0 && bytes.Equal(fresh.IV, columns.IV) {
			t.Errorf("%s: EncryptValue used an iv again", name)
		}
		if got, err := a.DecryptValue(fresh); err != nil || !same(got, want) {
			t.Errorf("%s: DecryptValue(EncryptValue(%#v)) = %#v, %v", name, input, got, err)
		}
	}

	for _, c := range v.Reads {
		o := c.Options.options(t)
		a, err := New(c.Options.Key.Bytes, o)
		if err != nil {
			t.Errorf("%s: New = %v", c.Name, err)
			continue
		}
		columns := c.columns()
		got, err := a.DecryptValue(columns)
		if c.Error != nil {
			if !isTyped(err) {
				t.Errorf("%s: DecryptValue = %#v, %v, want an error", c.Name, got, err)
			}
			continue
		}
		want := goValue(t, c.Read)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: DecryptValue = %#v, %v, want %#v", c.Name, got, err, want)
		}
		if c.EffectiveIV != "" {
			if _, err := a.EncryptValue(want); !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("%s: EncryptValue with an iv of zeros = %v, want ErrConfig", c.Name, err)
			}
			iv, err := hex.DecodeString(c.EffectiveIV)
			if err != nil {
				t.Fatal(err)
			}
			o.ZeroIV = false
			zero := replaying(t, c.Options.Key.Bytes, o, Columns{IV: encodings[o.IV].encode(iv)})
			if got, err := zero.EncryptValue(want); err != nil || !bytes.Equal(got.Value, columns.Value) {
				t.Errorf("%s: EncryptValue = %q, %v, want %q", c.Name, got.Value, err, columns.Value)
			}
		}
	}
	vectors.Ran(t, file, len(v.Cases)+len(v.Reads))
}

func isTyped(err error) bool {
	return errors.Is(err, kmsencrypted.ErrDecrypt) || errors.Is(err, kmsencrypted.ErrMalformed) || errors.Is(err, kmsencrypted.ErrConfig)
}

// foreignClass is the class of a Ruby value that has no Go form, "" of others.
func foreignClass(v vectors.Value) string {
	if v.Kind == "obj" {
		return v.Class
	}
	return map[string]string{"time": "Time", "date": "Date", "datetime": "DateTime", "decimal": "BigDecimal", "ip": "IPAddr"}[v.Kind]
}

// checkForeign: a marshalled object of another class decrypts, encrypts to the
// same bytes and is not read as a value.
func checkForeign(t *testing.T, name, class string, a, replaying *Attribute, columns Columns) {
	t.Helper()
	plaintext, err := a.Decrypt(columns)
	if err != nil {
		t.Errorf("%s: Decrypt = %v", name, err)
		return
	}
	if got, err := replaying.Encrypt(plaintext); err != nil || !reflect.DeepEqual(got, columns) {
		t.Errorf("%s: Encrypt = %q, %v, want %q", name, got, err, columns)
	}
	value, err := a.DecryptValue(columns)
	if foreign, ok := errors.AsType[*ClassError](err); !ok || foreign.Class != class {
		t.Errorf("%s: DecryptValue = %#v, %v, want a ClassError of %s", name, value, err, class)
	}
}

// refusesChanges flips a bit of every byte of value and iv, cuts the value and
// takes another key. CBC notices little of it; it must not panic.
func refusesChanges(t *testing.T, name string, a *Attribute, key []byte, o Options, c Columns) {
	t.Helper()
	if len(c.Value) == 0 {
		return
	}
	authenticated := !strings.Contains(o.Algorithm, "cbc")
	value, err := encodings[o.Value].decode(c.Value)
	if err != nil {
		t.Fatal(err)
	}
	iv, err := encodings[o.IV].decode(c.IV)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, value, iv []byte) {
		t.Helper()
		changed := Columns{encodings[o.Value].encode(value), encodings[o.IV].encode(iv), c.Salt}
		got, err := a.Decrypt(changed)
		if authenticated && !isTyped(err) || err != nil && !isTyped(err) {
			t.Errorf("%s: Decrypt(%s) = %q, %v, want a typed error", name, what, got, err)
		}
	}
	for i := range value {
		changed := bytes.Clone(value)
		changed[i] ^= 1 << (i % 8)
		check("value with bit flipped in byte "+strconv.Itoa(i), changed, iv)
		if i > 0 {
			check("value cut to "+strconv.Itoa(i), value[:i], iv)
		}
	}
	for i := range iv {
		changed := bytes.Clone(iv)
		changed[i] ^= 1 << (i % 8)
		check("iv with bit flipped in byte "+strconv.Itoa(i), value, changed)
		check("iv cut to "+strconv.Itoa(i), value, iv[:i])
	}
	otherKey := bytes.Clone(key)
	otherKey[0] ^= 1
	other, err := New(otherKey, o)
	if err != nil {
		t.Fatal(err)
	}
	plaintext, err := a.Decrypt(c)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := other.Decrypt(c); err == nil && bytes.Equal(got, plaintext) || authenticated && !errors.Is(err, kmsencrypted.ErrDecrypt) {
		t.Errorf("%s: Decrypt with another key = %q, %v, want ErrDecrypt", name, got, err)
	}
}
