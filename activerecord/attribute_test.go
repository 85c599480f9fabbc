package activerecord

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func attributeOf(t testing.TB, c Config, s Scheme) *Attribute {
	t.Helper()
	if c.Salt == "" {
		c.Salt = "salt"
	}
	if c.PrimaryKeys == nil {
		c.PrimaryKeys = Passwords("primary")
	}
	if c.DeterministicKey.IsZero() {
		c.DeterministicKey = Password("deterministic")
	}
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	a, err := e.Attribute(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func encrypt(t testing.TB, a *Attribute, text string) []byte {
	t.Helper()
	column, err := a.Encrypt(UTF8(text))
	if err != nil {
		t.Fatal(err)
	}
	return column
}

// Any text under any options comes back, and a changed column never does.
func TestRandom(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func() bool { return r.IntN(2) == 0 }
	var made []*Attribute
	for range 24 {
		s := Scheme{Deterministic: pick(), MessagePack: pick(), Uncompressed: pick(), NotFixed: pick()}
		switch r.IntN(4) {
		case 0:
			s.Envelope = true
		case 1:
			s.Keys = []Key{RawKey(bytes.Repeat([]byte{1}, KeySize)), RawKey(bytes.Repeat([]byte{2}, KeySize))}
		}
		if pick() {
			s.Previous = []Scheme{{Deterministic: s.Deterministic, Keys: []Key{RawKey(bytes.Repeat([]byte{3}, KeySize))}}}
		}
		made = append(made, attributeOf(t, Config{KeyReferences: pick(), KeepEncoding: pick()}, s))
	}
	for i := range 2000 {
		a := made[r.IntN(len(made))]
		text := make([]byte, r.IntN(1<<r.IntN(11)))
		for i := range text {
			text[i] = byte(r.IntN(1 << (1 + r.IntN(8))))
		}
		column, err := a.Encrypt(NewText(text, EncodingUTF8))
		if err != nil {
			t.Fatalf("seed %d, case %d: Encrypt = %v", seed, i, err)
		}
		got, err := a.Decrypt(column)
		if err != nil || !bytes.Equal(got.Bytes(), text) {
			t.Fatalf("seed %d, case %d: Decrypt(%s) = %q, %v; want %q", seed, i, column, got.Bytes(), err, text)
		}
		at := r.IntN(len(column))
		changed := bytes.Clone(column)
		changed[at] ^= 1 << r.IntN(8)
		// Headers are not authenticated: the reference, the encoding and unknown ones may
		// change, but never the text of what is not compressed.
		got, err = a.Decrypt(changed)
		isCompressed := bytes.Contains(column, []byte(`"c":true`)) || bytes.HasSuffix(column, []byte("\xc3"))
		if err == nil && !bytes.Equal(got.Bytes(), text) && !isCompressed {
			t.Fatalf("seed %d, case %d: Decrypt of %s, changed at %d = %q", seed, i, column, at, got.Bytes())
		}
	}
}

// A longer text is compressed, and found by the same bytes.
func TestLookup(t *testing.T) {
	t.Parallel()
	old := attributeOf(t, Config{}, Scheme{Deterministic: true, Keys: Passwords("old")})
	now := attributeOf(t, Config{}, Scheme{Deterministic: true, Previous: []Scheme{{Deterministic: true, Keys: Passwords("old")}}})
	free := attributeOf(t, Config{}, Scheme{Deterministic: true, NotFixed: true, Previous: []Scheme{{Deterministic: true, Keys: Passwords("old")}}})
	for _, text := range []string{"", "ada", strings.Repeat("ada ", 100)} {
		before := encrypt(t, old, text)
		if column := encrypt(t, now, text); !bytes.Equal(column, before) {
			t.Errorf("fixed: column %s, want the previous scheme's %s", column, before)
		}
		fresh := encrypt(t, free, text)
		if bytes.Equal(fresh, before) {
			t.Error("not fixed: the column is the previous scheme's")
		}
		found, err := free.Lookup(UTF8(text))
		if err != nil || len(found) != 2 || !bytes.Equal(found[0], fresh) || !bytes.Equal(found[1], before) {
			t.Errorf("Lookup = %q, %v; want %q and %q", found, err, fresh, before)
		}
	}
	for _, s := range []Scheme{{}, {Envelope: true, Deterministic: true}, {Deterministic: true, Previous: []Scheme{{}}}} {
		if _, err := attributeOf(t, Config{}, s).Lookup(UTF8("a")); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Lookup under %+v = %v, want ErrConfig", s, err)
		}
	}
}

func TestPlaintext(t *testing.T) {
	t.Parallel()
	other := attributeOf(t, Config{PrimaryKeys: Passwords("other")}, Scheme{})
	message := string(encrypt(t, other, "secret"))
	for _, c := range []struct {
		column    string
		plaintext Plaintext
		want      error
	}{
		{"ada", PlaintextDefault, kmsencrypted.ErrNotCiphertext},
		{"", PlaintextRefused, kmsencrypted.ErrNotCiphertext},
		{"ada", PlaintextRead, nil},
		{`{"name":"ada"}`, PlaintextRead, nil},
		{"ada", PlaintextLax, nil},
		{message, PlaintextRead, kmsencrypted.ErrDecrypt},
		{message[:40], PlaintextRead, kmsencrypted.ErrMalformed},
		{`{"h": {"at": "x"`, PlaintextRead, kmsencrypted.ErrMalformed},
		{message, PlaintextLax, nil},
		{message[:40], PlaintextLax, nil},
	} {
		a := attributeOf(t, Config{Plaintext: c.plaintext}, Scheme{})
		got, err := a.Decrypt([]byte(c.column))
		if !errors.Is(err, c.want) || err == nil && string(got.Bytes()) != c.column {
			t.Errorf("Plaintext %d: Decrypt(%s) = %q, %v; want %v", c.plaintext, c.column, got.Bytes(), err, c.want)
		}
		own := attributeOf(t, Config{}, Scheme{Plaintext: c.plaintext})
		if _, other := own.Decrypt([]byte(c.column)); fmt.Sprint(other) != fmt.Sprint(err) {
			t.Errorf("Scheme.Plaintext %d: Decrypt(%s) = %v, want %v", c.plaintext, c.column, other, err)
		}
	}
}

// A small message must not become a text of gigabytes.
func TestInflatingIsBounded(t *testing.T) {
	t.Parallel()
	writer := attributeOf(t, Config{}, Scheme{Compressor: bomb{}})
	column := encrypt(t, writer, strings.Repeat("a", compressAbove+1))
	if _, err := attributeOf(t, Config{MaxInflated: 1 << 20}, Scheme{}).Decrypt(column); !errors.Is(err, kmsencrypted.ErrTooLarge) {
		t.Errorf("Decrypt of a bomb = %v, want ErrTooLarge", err)
	}
	if got, err := attributeOf(t, Config{MaxInflated: 2 << 20}, Scheme{}).Decrypt(column); err != nil || len(got.Bytes()) != 2<<20 {
		t.Errorf("Decrypt = %d bytes, %v", len(got.Bytes()), err)
	}
}

type bomb struct{ zlibCompressor }

func (bomb) Deflate([]byte) ([]byte, error) {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	w.Write(make([]byte, 2<<20))
	w.Close()
	return b.Bytes(), nil
}

func TestIsCurrent(t *testing.T) {
	t.Parallel()
	before := attributeOf(t, Config{PrimaryKeys: Passwords("a")}, Scheme{})
	after := attributeOf(t, Config{PrimaryKeys: Passwords("a", "b"), Plaintext: PlaintextRead}, Scheme{})
	for column, want := range map[string]bool{string(encrypt(t, before, "x")): false, string(encrypt(t, after, "x")): true, "plain": false} {
		if got, err := after.IsCurrent([]byte(column)); err != nil || got != want {
			t.Errorf("IsCurrent(%s) = %t, %v; want %t", column, got, err, want)
		}
	}
}

// What Rails would change is refused.
func TestLossy(t *testing.T) {
	t.Parallel()
	deterministic := attributeOf(t, Config{}, Scheme{Deterministic: true})
	lower := attributeOf(t, Config{}, Scheme{Downcase: true})
	for name, err := range map[string]error{
		"Encrypt of bytes":   func() error { _, err := deterministic.Encrypt(NewText([]byte{0xff}, EncodingBinary)); return err }(),
		"Lookup of bytes":    func() error { _, err := deterministic.Lookup(NewText([]byte{0xff}, EncodingBinary)); return err }(),
		"Encrypt of invalid": func() error { _, err := lower.Encrypt(UTF8("\xff")); return err }(),
	} {
		if !errors.Is(err, kmsencrypted.ErrLossy) {
			t.Errorf("%s = %v, want ErrLossy", name, err)
		}
	}
	if got, err := NewText([]byte{'Z', 0xfc}, "iso-8859-1").UTF8(); err != nil || string(got) != "Zü" {
		t.Errorf("UTF8 of ISO-8859-1 = %q, %v", got, err)
	}
	if _, err := NewText([]byte("x"), "Shift_JIS").UTF8(); !errors.Is(err, kmsencrypted.ErrType) {
		t.Errorf("UTF8 of Shift_JIS = %v, want ErrType", err)
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	e, err := New(Config{PrimaryKeys: Passwords("p"), Salt: "s"})
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"New with a digest":      func() error { _, err := New(Config{Digest: "MD5"}); return err },
		"New with a limit":       func() error { _, err := New(Config{MaxInflated: -1}); return err },
		"no deterministic key":   func() error { _, err := e.Attribute(Scheme{Deterministic: true}); return err },
		"envelope with keys":     func() error { _, err := e.Attribute(Scheme{Envelope: true, Keys: Passwords("k")}); return err },
		"a short key":            func() error { _, err := e.Attribute(Scheme{Keys: []Key{RawKey([]byte("k"))}}); return err },
		"a zero key":             func() error { _, err := e.Attribute(Scheme{Keys: []Key{{}}}); return err },
		"a digest of a key":      func() error { _, err := e.Attribute(Scheme{Keys: []Key{Password("k").With("MD5")}}); return err },
		"a NullEncryptor":        func() error { _, err := e.Attribute(Scheme{Null: true}); return err },
		"Encryption{}":           func() error { _, err := new(Encryption).Attribute(Scheme{}); return err },
		"nil Encryption":         func() error { _, err := (*Encryption)(nil).Attribute(Scheme{}); return err },
		"Attribute{}.Encrypt":    func() error { _, err := new(Attribute).Encrypt(Text{}); return err },
		"Attribute{}.Decrypt":    func() error { _, err := new(Attribute).Decrypt(nil); return err },
		"Attribute{}.IsCurrent":  func() error { _, err := new(Attribute).IsCurrent(nil); return err },
		"nil Attribute.Lookup":   func() error { _, err := (*Attribute)(nil).Lookup(Text{}); return err },
		"ParseType":              func() error { _, err := ParseType("inet", nil); return err },
		"ParseType without YAML": func() error { _, err := ParseType("hash", nil); return err },
		"Append of another type": func() error { _, _, err := Type{}.Append(nil, 1); return err },
		"a salt": func() error {
			e, _ := New(Config{PrimaryKeys: Passwords("p")})
			_, err := e.Attribute(Scheme{})
			return err
		},
	} {
		if err := try(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}

// Nothing prints a password, a key or a plaintext.
func TestRedacted(t *testing.T) {
	t.Parallel()
	c := Config{PrimaryKeys: Passwords("hunter2"), Salt: "s", Previous: []Scheme{{Keys: []Key{RawKey([]byte("hunter2"))}}}}
	a := attributeOf(t, Config{PrimaryKeys: Passwords("hunter2")}, Scheme{})
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{c, e, a, *a, UTF8("hunter2"), struct{ T Text }{UTF8("hunter2")}, struct{ a *Attribute }{a}} {
		printed := fmt.Sprintf("%v %+v %#v %s %d", v, v, v, v, v)
		if data, err := json.Marshal(v); err == nil {
			printed += string(data)
		}
		if strings.Contains(printed, "hunter2") || strings.Contains(printed, "104 117 110") {
			t.Errorf("a %T prints as %s", v, printed)
		}
	}
}

// What parses is written again as what parses the same, and nothing panics.
func FuzzDecrypt(f *testing.F) {
	var attributes []*Attribute
	for _, s := range []Scheme{{}, {MessagePack: true}, {Envelope: true}, {Envelope: true, MessagePack: true, Deterministic: true}} {
		a := attributeOf(f, Config{KeyReferences: true, Plaintext: PlaintextRead}, s)
		attributes = append(attributes, a)
		f.Add(encrypt(f, a, "ada"))
		f.Add(encrypt(f, a, strings.Repeat("ada", 100)))
		binary, err := a.Encrypt(NewText([]byte("ada"), EncodingBinary))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(binary)
	}
	f.Add([]byte("\xcc\x80\xdf\xff\xff\xff\xff"))
	f.Add([]byte("\xcc\x80\x82\xa1p\xc6\xff\xff\xff\xff"))
	f.Add([]byte(`{"p":"","h":{"k":{"p":"","h":{"k":{}}}}}`))
	f.Fuzz(func(t *testing.T, column []byte) {
		for _, a := range attributes {
			text, err := a.Decrypt(column)
			if err == nil {
				again, err := a.Encrypt(text)
				if err != nil {
					return // an encoding that is not converted
				}
				back, err := a.Decrypt(again)
				if err != nil || !bytes.Equal(back.Bytes(), text.Bytes()) {
					t.Fatalf("Decrypt(Encrypt(%q)) = %q, %v", text.Bytes(), back.Bytes(), err)
				}
			}
		}
		for _, s := range []serializer{jsonSerializer{}, messagePack{}} {
			m, err := s.parse(column)
			if err != nil || m.payload == nil || !writable(m) {
				continue
			}
			again, err := s.parse(s.append(nil, m))
			if err != nil || fmt.Sprint(again.headers) != fmt.Sprint(m.headers) && !strings.Contains(fmt.Sprint(m.headers), "0x") {
				t.Fatalf("parse(%q), written and parsed again = %v, %v", column, again, err)
			}
		}
	})
}

// writable reports whether a message has only what Rails writes.
func writable(m *message) bool {
	for _, h := range m.headers {
		switch v := h.value.(type) {
		case []byte:
			if h.place() > 4 || (h.name == "e" || h.name == "i") && len(v) > 31 {
				return false
			}
		case *message:
			if v.payload == nil || h.name != "k" || !writable(v) {
				return false
			}
		default:
			if h.name != "c" || v != true {
				return false
			}
		}
	}
	return true
}
