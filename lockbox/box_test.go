package lockbox

import (
	"bytes"
	"crypto/fips140"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

var algorithms = []Algorithm{AESGCM, XChaCha20, XSalsa20, Hybrid}

// testKey is a key for tests, another one for each n.
func testKey(n byte) []byte { return bytes.Repeat([]byte{n}, KeySize) }

// newTestBox returns a box of any algorithm.
func newTestBox(t testing.TB, o Options) *Box {
	t.Helper()
	box, err := func() (*Box, error) {
		if o.Algorithm != Hybrid {
			return New(testKey(1), o)
		}
		encryption, decryption, err := GenerateHybridKeys()
		if err != nil {
			t.Fatal(err)
		}
		return NewHybrid(encryption, decryption, o)
	}()
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func TestBox(t *testing.T) {
	t.Parallel()
	for _, algorithm := range algorithms {
		for _, padding := range []int{0, 1, 16} {
			for _, size := range []int{0, 1, 15, 16, 1000} {
				box := newTestBox(t, Options{Algorithm: algorithm, Padding: padding})
				plaintext := bytes.Repeat([]byte{0x80}, size)
				var associatedData []byte
				if algorithm == AESGCM || algorithm == XChaCha20 {
					associatedData = []byte("users")
				}
				prefix := []byte("before ")
				for name, f := range map[string]struct {
					seal, open func(dst, src, associatedData []byte) ([]byte, error)
				}{"bytes": {box.Seal, box.Open}, "text": {box.SealText, box.OpenText}} {
					sealed, err := f.seal(bytes.Clone(prefix), plaintext, associatedData)
					if err != nil || !bytes.HasPrefix(sealed, prefix) {
						t.Fatalf("%s, padding %d, %s: Seal = %q, %v", algorithm, padding, name, sealed, err)
					}
					opened, err := f.open(bytes.Clone(prefix), sealed[len(prefix):], associatedData)
					if err != nil || !bytes.Equal(opened, append(bytes.Clone(prefix), plaintext...)) {
						t.Errorf("%s, padding %d, %s: Open(Seal(%d bytes)) = %q, %v", algorithm, padding, name, size, opened, err)
					}
				}
			}
		}
	}
}

// A buffer with room is used, and what lay behind the box holds no plaintext.
func TestBoxBuffers(t *testing.T) {
	t.Parallel()
	plaintext := []byte("a secret of some length")
	for _, padding := range []int{0, 16} {
		box := newTestBox(t, Options{Padding: padding})
		buf := make([]byte, 0, 512)
		sealed, err := box.SealText(buf, plaintext, nil)
		if err != nil {
			t.Fatal(err)
		}
		if &sealed[0] != &buf[:1][0] {
			t.Errorf("padding %d: SealText did not use the buffer", padding)
		}
		if bytes.Contains(buf[:cap(buf)], plaintext) {
			t.Errorf("padding %d: SealText left the plaintext behind the text", padding)
		}
		text := bytes.Clone(sealed)
		opened, err := box.OpenText(buf[:0], text, nil)
		if err != nil || &opened[0] != &buf[:1][0] {
			t.Errorf("padding %d: OpenText = %q, %v, not in the buffer", padding, opened, err)
		}
	}
}

func TestBoxPrevious(t *testing.T) {
	t.Parallel()
	old := newTestBox(t, Options{Algorithm: XSalsa20, Padding: 16})
	hybrid := newTestBox(t, Options{Algorithm: Hybrid})
	unbound := newTestBox(t, Options{Unbound: true})
	current, err := New(testKey(9), Options{Previous: []*Box{old, hybrid, unbound}})
	if err != nil {
		t.Fatal(err)
	}
	for i, box := range []*Box{current, old, hybrid, unbound} {
		sealed, err := box.Seal(nil, []byte("secret"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := current.Open(nil, sealed, nil); err != nil || string(got) != "secret" {
			t.Errorf("Open(box of version %d) = %q, %v", i, got, err)
		}
		other := newTestBox(t, Options{Padding: 3, Previous: []*Box{hybrid}})
		if got, err := other.Open(nil, sealed, nil); i != 2 && !errors.Is(err, kmsencrypted.ErrDecrypt) {
			t.Errorf("Open(box of version %d, which is not listed) = %q, %v, want ErrDecrypt", i, got, err)
		}
	}
	sealed, err := unbound.Seal(nil, []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := unbound.Open(nil, sealed, []byte("new data")); err != nil || string(got) != "secret" {
		t.Errorf("Open(box from before associated data) = %q, %v", got, err)
	}
	if _, err := unbound.Seal(nil, []byte("secret"), []byte("new data")); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Seal(associated data that would not count) = %v, want ErrConfig", err)
	}
}

func TestBoxConfig(t *testing.T) {
	t.Parallel()
	encryption, decryption, err := GenerateHybridKeys()
	if err != nil {
		t.Fatal(err)
	}
	lowOrder := append(make([]byte, 32), decryption[:32]...) // the all-zero point
	for name, f := range map[string]func() error{
		"no key":              func() error { _, err := New(nil, Options{}); return err },
		"short key":           func() error { _, err := New(make([]byte, 31), Options{}); return err },
		"unknown algorithm":   func() error { _, err := New(testKey(1), Options{Algorithm: "aes-cbc"}); return err },
		"hybrid with one key": func() error { _, err := New(testKey(1), Options{Algorithm: Hybrid}); return err },
		"negative padding":    func() error { _, err := New(testKey(1), Options{Padding: -1}); return err },
		"enormous padding":    func() error { _, err := New(testKey(1), Options{Padding: 1 << 30}); return err },
		"nil previous":        func() error { _, err := New(testKey(1), Options{Previous: []*Box{nil}}); return err },
		"no hybrid key":       func() error { _, err := NewHybrid(nil, nil, Options{}); return err },
		"short hybrid key":    func() error { _, err := NewHybrid(testKey(1), nil, Options{}); return err },
		"public key of zeros": func() error { _, err := NewHybrid(lowOrder, nil, Options{}); return err },
		"associated data": func() error {
			_, err := newTestBox(t, Options{Algorithm: XSalsa20}).Seal(nil, nil, []byte("x"))
			return err
		},
		"zero master key":     func() error { _, err := MasterKey{}.AttributeKey("users", "email_ciphertext"); return err },
		"hybrid key of a box": func() error { _, err := ParseHybridKey(strings.Repeat("a", 64)); return err },
		"no YAML":             func() error { _, err := ParseType("hash", nil); return err },
		"unknown type":        func() error { _, err := ParseType("jsonb", nil); return err },
	} {
		if err := f(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	sender, err := NewHybrid(encryption, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := NewHybrid(nil, decryption, Options{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := sender.Seal(nil, []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := recipient.Open(nil, sealed, nil); err != nil || string(got) != "secret" {
		t.Errorf("Open with the decryption key = %q, %v", got, err)
	}
	if _, err := sender.Open(nil, sealed, nil); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Open without the decryption key = %v, want ErrConfig", err)
	}
	if _, err := recipient.Seal(nil, []byte("secret"), nil); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Seal without the encryption key = %v, want ErrConfig", err)
	}
}

func TestOpenText(t *testing.T) {
	t.Parallel()
	box := newTestBox(t, Options{})
	sealed, err := box.SealText(nil, []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	text := string(sealed)
	for _, lenient := range []string{text + "\n", " " + text, text[:20] + "\r\n" + text[20:], text[:9] + "-" + text[9:], strings.TrimRight(text, "=")} {
		if got, err := box.OpenText(nil, []byte(lenient), nil); err != nil || string(got) != "secret" {
			t.Errorf("OpenText(%q) = %q, %v", lenient, got, err)
		}
	}
	for in, want := range map[string]error{
		"ada@example.org": kmsencrypted.ErrNotCiphertext,
		"A long plaintext that was never sealed, perhaps.": kmsencrypted.ErrNotCiphertext,
		"":                    kmsencrypted.ErrMalformed,
		"secret":              kmsencrypted.ErrMalformed,
		text[:16] + text[20:]: kmsencrypted.ErrDecrypt,
	} {
		if got, err := box.OpenText(nil, []byte(in), nil); !errors.Is(err, want) {
			t.Errorf("OpenText(%q) = %q, %v, want %v", in, got, err, want)
		}
	}
}

func TestColumn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		padding    int
		wantStored bool
	}{{0, false}, {16, true}} {
		for _, binary := range []bool{false, true} {
			column := Column{Box: newTestBox(t, Options{Padding: c.padding}), Binary: binary}
			stored, err := column.Seal(nil, nil, nil)
			if err != nil || len(stored) > 0 != c.wantStored {
				t.Errorf("padding %d: Seal(empty) = %q, %v", c.padding, stored, err)
			}
			if got, err := column.Open(nil, stored, nil); err != nil || len(got) != 0 {
				t.Errorf("padding %d: Open(Seal(empty)) = %q, %v", c.padding, got, err)
			}
			if _, err := column.Open(nil, nil, nil); (err == nil) == c.wantStored {
				t.Errorf("padding %d: Open(empty column) = %v", c.padding, err)
			}
		}
	}
}

func TestRedacted(t *testing.T) {
	t.Parallel()
	master, err := NewMasterKey(testKey('k'))
	if err != nil {
		t.Fatal(err)
	}
	holder := struct {
		Master MasterKey
		Box    *Box
	}{master, newTestBox(t, Options{Algorithm: XSalsa20})}
	texts := []string{fmt.Sprintf("%v %+v %#v %q %x", holder, holder, holder, master, master)}
	data, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append(texts, string(data)) {
		if strings.Contains(text, "kkkk") || strings.Contains(text, "6b6b") || strings.Contains(text, "107 107") || strings.Contains(text, "0x6b, ") {
			t.Errorf("%s shows the key", text)
		}
	}
}

// The default algorithm and the keys of attributes work in a process that is
// restricted to approved algorithms; the others say that they do not.
func TestFIPS(t *testing.T) {
	if os.Getenv("LOCKBOX_TEST_FIPS") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFIPS$", "-test.v")
		cmd.Env = append(cmd.Environ(), "LOCKBOX_TEST_FIPS=1", "GODEBUG=fips140=only")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestFIPS")) {
			t.Errorf("under fips140=only: %v\n%s", err, out)
		}
		return
	}
	if !fips140.Enforced() {
		t.Fatal("GODEBUG=fips140=only has no effect")
	}
	master, err := NewMasterKey(testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	key, err := master.AttributeKey("users", "email_ciphertext")
	if err != nil {
		t.Fatal(err)
	}
	box, err := New(key, Options{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := box.SealText(nil, []byte("secret"), []byte("users"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := box.OpenText(nil, sealed, []byte("users")); err != nil || string(got) != "secret" {
		t.Errorf("OpenText = %q, %v", got, err)
	}
	if _, err := New(key, Options{Algorithm: XChaCha20}); err != nil && !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("New(xchacha20) = %v, want ErrConfig", err)
	}
	if _, _, err := GenerateHybridKeys(); err != nil && !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("GenerateHybridKeys = %v, want ErrConfig", err)
	}
}

// Nothing but what was sealed opens, and what opens is sealed to the same bytes again.
func FuzzOpen(f *testing.F) {
	for _, algorithm := range algorithms[:3] {
		for _, padding := range []byte{0, 16} {
			box := newTestBox(f, Options{Algorithm: algorithm, Padding: int(padding)})
			sealed, err := box.Seal(nil, []byte("secret"), nil)
			if err != nil {
				f.Fatal(err)
			}
			text, err := box.SealText(nil, []byte("secret"), nil)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(algorithm), padding, false, sealed)
			f.Add(string(algorithm), padding, true, text)
		}
	}
	f.Fuzz(func(t *testing.T, algorithm string, padding byte, encoded bool, stored []byte) {
		key := testKey(1)
		box, err := New(key, Options{Algorithm: Algorithm(algorithm), Padding: int(padding)})
		if err != nil {
			return
		}
		open := box.Open
		if encoded {
			open = box.OpenText
		}
		plaintext, err := open(nil, stored, nil)
		if err != nil {
			if !isTyped(err) {
				t.Fatalf("Open(%x) = %v, want a typed error", stored, err)
			}
			return
		}
		sealed := stored
		if encoded {
			sealed = rubycompat.Decode64(string(stored))
		}
		again, err := withNonce(t, box, key, sealed[:nonceSize(box)]).Seal(nil, plaintext, nil)
		// Padding of another size may have been found.
		if err != nil || padding == 0 && !bytes.Equal(again, sealed) {
			t.Fatalf("Seal(Open(%x)) = %x, %v", sealed, again, err)
		}
	})
}
