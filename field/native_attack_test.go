package field_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// What somebody who can write to the database may try. Each is refused with an
// error of its own.

func sealedCustomer(t *testing.T, m *field.Model[customer], id int64, email string) customer {
	t.Helper()
	phone := "phone of " + email
	c := customer{ID: id, Email: field.New(email), Phone: field.New(&phone)}
	if err := m.Seal(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNativeRefusesExchangedColumns(t *testing.T) {
	t.Parallel()
	m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "customers"})
	a, b := sealedCustomer(t, m, 7, "a@example.org"), sealedCustomer(t, m, 8, "b@example.org")

	exchanged := reload(t, a)
	must(t, exchanged.Email.Scan(column(t, a.Phone)))
	wantError(t, "two columns of a record exchanged", m.Open(t.Context(), &exchanged), kmsencrypted.ErrDecrypt)

	moved := reload(t, a)
	must(t, moved.Email.Scan(column(t, b.Email)))
	wantError(t, "a column of another row", m.Open(t.Context(), &moved), kmsencrypted.ErrOtherDataKey)
	if !moved.Phone.IsSet() && moved.Phone.Must() == nil {
		t.Error("the damaged column hid the good one")
	}

	plain := reload(t, a)
	for _, text := range []string{"ada@example.org", "", "what is this", base64.StdEncoding.EncodeToString(make([]byte, 60))} {
		must(t, plain.Email.Scan(text))
		wantError(t, "plaintext in a ciphertext column", m.Open(t.Context(), &plain), kmsencrypted.ErrNotCiphertext)
	}

	rekeyed := reload(t, a)
	must(t, m.Rekey(t.Context(), &rekeyed))
	left := reload(t, rekeyed)
	must(t, left.Email.Scan(column(t, a.Email)))
	wantError(t, "a value left over from an older data key", m.Open(t.Context(), &left), kmsencrypted.ErrOtherDataKey)

	noKeyColumn := reload(t, a)
	noKeyColumn.Key = field.Key{}
	wantError(t, "a partial select without the key column", m.Open(t.Context(), &noKeyColumn), kmsencrypted.ErrNotLoaded)
}

// A whole row copied over another one: the commitment notices it even where the
// key service and the context do not.
func TestNativeRefusesMovedRow(t *testing.T) {
	t.Parallel()
	shared := func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"tenant": "acme"}, nil
	}
	for name, v := range map[string]kmsencrypted.Version{
		"context names the id":         {Provider: kmstest.Memory()},
		"context does not name the id": {Provider: kmstest.Memory(), Context: shared},
		"provider ignores the context": {Provider: newMemoryKey(), Context: shared},
	} {
		m := newModel[customer](t, nativeBox(t, v), field.Config{Table: "customers"})
		moved := reload(t, sealedCustomer(t, m, 7, "a@example.org"))
		moved.ID = 8
		err := m.Open(t.Context(), &moved)
		if !errors.Is(err, kmsencrypted.ErrBinding) && !errors.Is(err, kmsencrypted.ErrDecrypt) {
			t.Errorf("%s: %v, want ErrBinding or ErrDecrypt", name, err)
		}
		if v.Context != nil {
			wantError(t, name, err, kmsencrypted.ErrBinding)
		}
		// Another table and another key column.
		other := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: v.Provider, Context: shared}), field.Config{Table: "archive"})
		row := reload(t, sealedCustomer(t, newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: v.Provider, Context: shared}), field.Config{Table: "customers"}), 7, "a"))
		wantError(t, name+", another table", other.Open(t.Context(), &row), kmsencrypted.ErrBinding)
	}
}

// Every position of every column, changed, cut and extended, is an error and
// never another value.
func TestNativeRefusesEveryChange(t *testing.T) {
	t.Parallel()
	m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "customers"})
	c := sealedCustomer(t, m, 7, "ada@example.org")
	text := column(t, c.Email).(string)
	sealed, err := base64.StdEncoding.DecodeString(text)
	must(t, err)
	open := func(stored string) error {
		read := reload(t, c)
		must(t, read.Email.Scan(stored))
		err := m.Open(t.Context(), &read)
		if err == nil {
			t.Errorf("%q opened", stored)
		}
		return err
	}
	const tagEnds, formatEnds = 9, 1
	for i := range sealed {
		for bit := range 8 {
			changed := bytes.Clone(sealed)
			changed[i] ^= 1 << bit
			want := kmsencrypted.ErrDecrypt
			switch {
			case i < formatEnds && changed[0] != 0xC0:
				want = kmsencrypted.ErrNotCiphertext
			case i >= formatEnds && i < tagEnds:
				want = kmsencrypted.ErrOtherDataKey
			}
			wantError(t, "bit flipped", open(base64.StdEncoding.EncodeToString(changed)), want)
		}
	}
	for n := range sealed {
		want := kmsencrypted.ErrDecrypt
		switch {
		case n == 0:
			want = kmsencrypted.ErrNotCiphertext
		case n < 37:
			want = kmsencrypted.ErrMalformed
		}
		wantError(t, "truncated", open(base64.StdEncoding.EncodeToString(sealed[:n])), want)
	}
	for n := 1; n < len(text); n++ {
		open(text[:n])
		open(text[:n] + "\n" + text[n:])
	}
	wantError(t, "extended", open(base64.StdEncoding.EncodeToString(append(bytes.Clone(sealed), 0))), kmsencrypted.ErrDecrypt)

	key := column(t, c.Key).(string)
	// format 1, commitment 32, count 1, length 1, then the tag "memory".
	const hintFrom, hintTo = len("v1:") + 35*4/3, len("v1:") + 41*4/3
	for i := range key {
		for _, r := range "A/v0:\n" {
			changed := key[:i] + string(r) + key[i+1:]
			if changed == key {
				continue
			}
			read := reload(t, c)
			must(t, read.Key.Scan(changed))
			// The tag of a wrap is a hint which wrap to try first. Changing it
			// changes nothing that is opened.
			isHint := i >= hintFrom && i <= hintTo
			if err := m.Open(t.Context(), &read); err == nil && (!isHint || read.Email.Must() != "ada@example.org") {
				t.Errorf("key column changed at %d opened", i)
			}
		}
	}
}

// AES-GCM does not commit to its key: one ciphertext can open under two of them.
// This builds one, with two wrapped data keys that the key service really
// wrapped, and shows that the key column's commitment refuses the second.
func TestNativeRefusesTwoKeys(t *testing.T) {
	t.Parallel()
	one, two := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	nonce := make([]byte, 12)
	ciphertext := twoKeyCiphertext(t, one, two, nonce)
	fips140.WithoutEnforcement(func() { // the attacker's nonces are not random
		for _, key := range [][]byte{one, two} {
			block, err := aes.NewCipher(key)
			must(t, err)
			gcm, err := cipher.NewGCM(block)
			must(t, err)
			if _, err := gcm.Open(nil, nonce, ciphertext, nil); err != nil {
				t.Fatalf("the construction is wrong: %v", err)
			}
		}
	})
	// A column that holds it has the key tag of one data key at most, and the
	// commitment in the key column lets only that data key out.
	p := newMemoryKey()
	box := nativeBox(t, kmsencrypted.Version{Provider: p})
	binding := kmsencrypted.Binding{Table: "customers", Column: "encrypted_kms_key", ID: []string{"7"}, Context: kmsencrypted.Context{"a": 1}}
	k := kmsencrypted.NewDataKey()
	keyColumn, err := box.Wrap(t.Context(), k, binding)
	must(t, err)
	bound, err := kmsencrypted.Bind(binding.Context)
	must(t, err)
	otherWrap, err := p.Encrypt(t.Context(), two, bound)
	must(t, err)
	forged := replaceWrap(t, keyColumn, otherWrap)
	_, err = box.Unwrap(t.Context(), forged, binding)
	wantError(t, "another data key, wrapped under the same context", err, kmsencrypted.ErrBinding)
}

// replaceWrap puts another ciphertext of the same length into a key column with
// one wrap.
func replaceWrap(t *testing.T, column string, wrap []byte) string {
	t.Helper()
	body, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(column, "v1:"))
	must(t, err)
	copy(body[len(body)-len(wrap):], wrap)
	return "v1:" + base64.StdEncoding.EncodeToString(body)
}

// twoKeyCiphertext makes one GCM message that authenticates under two keys: the
// tag is linear in each block, so one block can be chosen to make both agree.
func twoKeyCiphertext(t *testing.T, key1, key2, nonce []byte) []byte {
	t.Helper()
	h1, mask1 := ghashKey(t, key1, nonce)
	h2, mask2 := ghashKey(t, key2, nonce)
	// Message: free block C1, fixed block C2. GHASH = C1*H^3 + C2*H^2 + L*H.
	c2 := element{1, 2}
	length := element{0, 256} // bits of associated data and ciphertext
	rest := func(h, mask element) element {
		return mul(c2, mul(h, h)).xor(mul(length, h)).xor(mask)
	}
	// C1*(H1^3 + H2^3) = rest1 + rest2.
	cube := func(h element) element { return mul(h, mul(h, h)) }
	c1 := mul(rest(h1, mask1).xor(rest(h2, mask2)), inverse(cube(h1).xor(cube(h2))))
	tag := mul(c1, cube(h1)).xor(rest(h1, mask1))
	return append(append(c1.bytes(), c2.bytes()...), tag.bytes()...)
}

// element is a member of GF(2^128) with GCM's bit order.
type element [2]uint64

func (e element) xor(o element) element { return element{e[0] ^ o[0], e[1] ^ o[1]} }

func (e element) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, e[0]), e[1])
}

func elementOf(b []byte) element {
	return element{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func mul(x, y element) (z element) {
	for i := range 128 {
		if x[i/64]>>(63-i%64)&1 == 1 {
			z = z.xor(y)
		}
		carry := y[1] & 1
		y = element{y[0] >> 1, y[1]>>1 | y[0]<<63}
		if carry == 1 {
			y[0] ^= 0xE1 << 56
		}
	}
	return z
}

// inverse is x^(2^128 - 2).
func inverse(x element) element {
	result := element{1 << 63, 0} // one
	power := x
	for range 127 {
		power = mul(power, power)
		result = mul(result, power)
	}
	return result
}

func ghashKey(t *testing.T, key, nonce []byte) (h, mask element) {
	t.Helper()
	block, err := aes.NewCipher(key)
	must(t, err)
	out := make([]byte, 16)
	block.Encrypt(out, make([]byte, 16))
	h = elementOf(out)
	block.Encrypt(out, append(bytes.Clone(nonce), 0, 0, 0, 1))
	return h, elementOf(out)
}

func TestNativeNeverEncryptsTwice(t *testing.T) {
	t.Parallel()
	m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "customers", Complete: true})
	c := reload(t, sealedCustomer(t, m, 7, "ada@example.org"))
	ciphertext := column(t, c.Email).(string)
	c.Email.Set(ciphertext)
	wantError(t, "a ciphertext assigned as plaintext", m.Seal(t.Context(), &c), kmsencrypted.ErrAlreadyEncrypted)
	// Also where a full update makes a new data key.
	c.Born.SetNull()
	c.Notes.SetNull()
	c.Phone.SetNull()
	wantError(t, "a ciphertext assigned as plaintext, new data key", m.Seal(t.Context(), &c), kmsencrypted.ErrAlreadyEncrypted)
	if _, err := c.Email.Value(); !errors.Is(err, kmsencrypted.ErrUnsealed) {
		t.Errorf("after a failed Seal Value gives %v, want ErrUnsealed", err)
	}
}

func TestUnsealedPlaintextIsNeverWritten(t *testing.T) {
	t.Parallel()
	set, unset := field.New("secret"), field.Of[string]{}
	if v, err := set.Value(); !errors.Is(err, kmsencrypted.ErrUnsealed) {
		t.Errorf("Value of a plaintext = %v, %v, want ErrUnsealed", v, err)
	}
	if v, err := unset.Value(); !errors.Is(err, kmsencrypted.ErrNotLoaded) {
		t.Errorf("Value of a column that was not read = %v, %v, want ErrNotLoaded", v, err)
	}
	if v, err := (field.Key{}).Value(); !errors.Is(err, kmsencrypted.ErrNotLoaded) {
		t.Errorf("Value of a key that was not read = %v, %v, want ErrNotLoaded", v, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}
